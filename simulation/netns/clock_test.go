package netns_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/faulttest"
	"github.com/xpd-platform/xpd/simulation/netns"
)

// clockSource makes every program that it is loaded into read the time from a clock
// of its own: the machine's and the microseconds in /etc/xpd-clock.
const clockSource = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
	static __thread int depth;
	char text[32] = {0};
	if (depth) return 0;
	depth = 1;
	int fd = open("/etc/xpd-clock", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
		close(fd);
	}
	depth = 0;
	return atol(text);
}

int clock_gettime(clockid_t id, struct timespec *ts) {
	int failed = syscall(SYS_clock_gettime, id, ts);
	if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
		long us = offset();
		ts->tv_sec += us / 1000000;
		ts->tv_nsec += us % 1000000 * 1000;
		if (ts->tv_nsec < 0) ts->tv_nsec += 1000000000, ts->tv_sec--;
		if (ts->tv_nsec >= 1000000000) ts->tv_nsec -= 1000000000, ts->tv_sec++;
	}
	return failed;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
	struct timespec ts;
	(void)tz;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec, tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *t) {
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (t) *t = ts.tv_sec;
	return ts.tv_sec;
}
`

// clocks gives each host a clock that its PostgreSQL goes by. xpd is linked
// statically, so nothing can be loaded into it: its wall clock is the machine's. It
// decides by the monotonic one alone, which no step changes.
type clocks struct {
	library string
	etc     map[pgcluster.NodeID]string // each host's own copy of /etc
}

func newClocks(ctx context.Context, dir string) (*clocks, error) {
	c := &clocks{library: filepath.Join(dir, "clock.so"), etc: map[pgcluster.NodeID]string{}}
	source := filepath.Join(dir, "clock.c")
	if err := os.WriteFile(source, []byte(clockSource), 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "gcc", "-O1", "-shared", "-fPIC", "-o", c.library, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the clock: %w: %s", err, out)
	}
	return c, nil
}

// command returns what runs a program on h by its own clock: it has a view of its
// own of /etc, where the dynamic linker looks for what to load first.
func (c *clocks) command(ctx context.Context, dir string, h netns.Host) ([]string, error) {
	etc := filepath.Join(dir, "etc-"+string(h.ID))
	if out, err := exec.CommandContext(ctx, "cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("copy /etc: %w: %s", err, out)
	}
	c.etc[h.ID] = etc
	if err := os.WriteFile(filepath.Join(etc, "ld.so.preload"), []byte(c.library+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := c.set(h.ID, 0); err != nil {
		return nil, err
	}
	return append(h.Command(), "unshare", "--mount", "--propagation", "private", "--",
		"/bin/sh", "-c", `mount --bind "$0" /etc && exec "$@"`, etc), nil
}

// set makes the clock of a host differ from the machine's by offset.
func (c *clocks) set(id pgcluster.NodeID, offset time.Duration) error {
	path := filepath.Join(c.etc[id], "xpd-clock")
	if err := os.WriteFile(path+".new", []byte(strconv.FormatInt(offset.Microseconds(), 10)), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// A clock that steps must not cost the role, nor an acknowledged write. PostgreSQL
// measures the patience of its walsenders by the wall clock, so a step forward ends
// them: they are back a moment later.
func TestF32_clocksStep(t *testing.T) { //nolint:paralleltest // see above
	slow(t)
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("F32: a clock to load into PostgreSQL needs gcc: run make deps")
	}
	if err := shared.close(); err != nil { // one cluster at a time
		t.Fatal(err)
	}
	b := &bed{ownClocks: true}
	t.Cleanup(b.remove)
	report := b.underLoad(t, faulttest.Rules{}, func(ctx context.Context, r run) error {
		primary, standbys, err := r.Roles(ctx)
		if err != nil {
			return err
		}
		for _, step := range []struct {
			name  string
			host  pgcluster.NodeID
			steps []time.Duration
		}{
			{"F32 clock of the primary an hour ahead, and back", primary, []time.Duration{time.Hour, 0}},
			{"F32 clock of the primary an hour behind, and back", primary, []time.Duration{-time.Hour, 0}},
			{"F32 clock of a standby an hour ahead, behind, and back", standbys[0], []time.Duration{time.Hour, -time.Hour, 0}},
		} {
			err := r.Disturb(ctx, step.name, func(ctx context.Context) error {
				return r.withoutFailover(ctx, func() error {
					for _, offset := range step.steps {
						if err := b.step(ctx, r, step.host, offset); err != nil {
							return err
						}
					}
					return nil
				})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	faulttest.ExpectMove(t, report, false)
}

// step sets the clock of a host, and returns once its PostgreSQL goes by it and
// writes have gone on for a while.
func (b *bed) step(ctx context.Context, r run, host pgcluster.NodeID, offset time.Duration) error {
	if err := b.clocks.set(host, offset); err != nil {
		return err
	}
	conn, err := r.Cluster.Admin(ctx, host)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var now time.Time
	if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return err
	}
	if off := time.Until(now) - offset; off.Abs() > time.Minute {
		return fmt.Errorf("the clock of %s is %s off the %s that it should be off", host, time.Until(now), offset)
	}
	r.Say("the clock of %s differs by %s", host, offset)
	if err := r.Hold(ctx, calm); err != nil {
		return err
	}
	return r.AwaitEnrolment(ctx, time.Now())
}
