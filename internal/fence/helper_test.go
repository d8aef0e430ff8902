package fence_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/failover/lease"
	"github.com/xpd-platform/xpd/internal/fence"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

const patience = 30 * time.Second

// helperVariable makes this test program a helper, as xpd is one when it is called
// with fence: its value is the file of the process id and the watchdog.
const helperVariable = "XPD_FENCE_TEST_HELPER"

func TestMain(m *testing.M) {
	if value := os.Getenv(helperVariable); value != "" {
		help(value)
		return
	}
	m.Run()
}

func help(value string) {
	pidFile, watchdog, _ := strings.Cut(value, ",")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := fence.Run(ctx, fence.Options{
		Beats: os.NewFile(fence.BeatsFD, "beats"), PIDFile: pidFile, Watchdog: watchdog, Now: lease.Boottime,
		Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	})
	if err != nil {
		panic(err)
	}
}

// helper is a helper process, with the pipe to it.
type helper struct {
	t     *testing.T
	pid   int
	beats *os.File
	ended chan error
	log   *bytes.Buffer // to be read after ended
}

// startHelper starts one that ends with the test.
func startHelper(t *testing.T, pidFile, watchdog string) *helper {
	t.Helper()
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	h := &helper{t: t, beats: ours, ended: make(chan error, 1), log: &bytes.Buffer{}}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "/proc/self/exe")
	cmd.Env = append(os.Environ(), helperVariable+"="+pidFile+","+watchdog)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = h.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.pid = cmd.Process.Pid
	done := make(chan struct{})
	go func() {
		h.ended <- cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = ours.Close()
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() {
			t.Logf("the helper logged:\n%s", h.log)
		}
	})
	return h
}

func (h *helper) say(b fence.Beat) {
	h.t.Helper()
	if err := json.NewEncoder(h.beats).Encode(b); err != nil {
		h.t.Fatal(err)
	}
}

// await returns once the helper has ended, well.
func (h *helper) await() {
	h.t.Helper()
	select {
	case err := <-h.ended:
		if err != nil {
			h.t.Fatalf("the helper ended: %v", err)
		}
	case <-time.After(patience):
		h.t.Fatal("the helper does not end")
	}
}

// postgres is a real server in its data directory.
func postgres(t *testing.T) (c *pgtest.Cluster, data string) {
	t.Helper()
	c = pgtest.NewCluster(t, 1)
	conn, err := pgx.Connect(t.Context(), c.DSN(0))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), "SHOW data_directory").Scan(&data); err != nil {
		t.Fatal(err)
	}
	if data, err = filepath.EvalSymlinks(data); err != nil {
		t.Fatal(err)
	}
	return c, data
}

// eventually waits for what no event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in time", what)
		case <-tick.C:
		}
	}
}

// serves reports whether PostgreSQL lets somebody in.
func serves(ctx context.Context, c *pgtest.Cluster) bool {
	conn, err := pgx.Connect(ctx, c.DSN(0))
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

func postmasterOf(t *testing.T, data string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// An xpd that dies: PostgreSQL lives while the lease does, and not much longer.
func TestRun_closesPostgresAfterTheLease(t *testing.T) {
	t.Parallel()
	c, data := postgres(t)
	watchdog := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(watchdog, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHelper(t, filepath.Join(t.TempDir(), "fence.pid"), watchdog)
	const left = 2 * time.Second
	until := lease.Boottime() + left
	h.say(fence.Beat{Until: until, Primary: true, Fenced: true, Data: data})
	if err := h.beats.Close(); err != nil {
		t.Fatal(err)
	}
	h.await() // it has nothing left to guard
	if now := lease.Boottime(); now < until {
		t.Errorf("PostgreSQL was closed %v before the lease ended", until-now)
	}
	if serves(t.Context(), c) {
		t.Error("PostgreSQL lives on")
	}
	if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); err == nil {
		t.Error("PostgreSQL was not shut down cleanly")
	}
	text, err := os.ReadFile(watchdog)
	if err != nil || len(text) < 2 || strings.Trim(string(text), "\x00") != "V" || text[len(text)-1] != 'V' {
		t.Errorf("the watchdog got %q, %v: want that it was petted, and disarmed once there was nothing to guard", text, err)
	}
	c.Start(0)
}

// One that hangs keeps the pipe open and says nothing; its postmaster hangs, too.
func TestRun_killsAPostgresThatHangs(t *testing.T) {
	t.Parallel()
	c, data := postgres(t)
	h := startHelper(t, filepath.Join(t.TempDir(), "fence.pid"), "")
	if err := syscall.Kill(postmasterOf(t, data), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.say(fence.Beat{Until: lease.Boottime(), Primary: true, Fenced: true, Data: data})
	eventually(t, "no process of PostgreSQL is left", func() bool {
		entries, err := filepath.Glob("/proc/[0-9]*/cwd")
		for _, e := range entries {
			if cwd, linkErr := os.Readlink(e); linkErr == nil && cwd == data {
				return false
			}
		}
		return err == nil
	})
	select {
	case err := <-h.ended:
		t.Errorf("the helper ended though its xpd may speak again: %v", err)
	default:
	}
	c.Stop(0)                     // buries the postmaster
	h.say(fence.Beat{Data: data}) // before it would close the next one, too
	if err := h.beats.Close(); err != nil {
		t.Fatal(err)
	}
	h.await()
	c.Start(0)
}

// An xpd that wants no fence ends the helper of the one before.
func TestRetire(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "fence.pid")
	if err := fence.Retire(t.Context(), pidFile); err != nil {
		t.Errorf("Retire() without a helper = %v", err)
	}
	h := startHelper(t, pidFile, "")
	h.say(fence.Beat{Primary: true, Fenced: true})
	eventually(t, "the helper holds its file", func() bool {
		text, err := os.ReadFile(pidFile)
		return err == nil && strings.TrimSpace(string(text)) == strconv.Itoa(h.pid)
	})
	if err := fence.Retire(t.Context(), pidFile); err != nil {
		t.Errorf("Retire() = %v", err)
	}
	h.await()
}

// The quorum needs no help: nothing is closed. That one who speaks is in charge is
// for TestBeat_Due: a test that is not scheduled for a second would seem to hang.
func TestRun_leavesPostgresAlone(t *testing.T) {
	t.Parallel()
	c, data := postgres(t)
	h := startHelper(t, filepath.Join(t.TempDir(), "fence.pid"), "")
	speaking := time.NewTicker(fence.Every)
	defer speaking.Stop()
	h.say(fence.Beat{Until: lease.Boottime() + time.Hour, Primary: true, Fenced: true, Data: data})
	h.say(fence.Beat{Until: lease.Boottime(), Primary: true, Data: data}) // not fenced any more
	if err := h.beats.Close(); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		<-speaking.C
	}
	if !serves(t.Context(), c) {
		t.Fatal("PostgreSQL was closed")
	}
	select {
	case err := <-h.ended:
		t.Fatalf("the helper left PostgreSQL alone: %v", err)
	default:
	}
	c.Stop(0)
	h.await()
	c.Start(0)
}

// A new xpd replaces the helper that it finds. Neither closes anything.
func TestSupervisor_replacesTheHelper(t *testing.T) {
	t.Parallel()
	c, data := postgres(t)
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "fence.pid")
	former := startHelper(t, pidFile, "")
	former.say(fence.Beat{Until: lease.Boottime() + time.Hour, Primary: true, Fenced: true, Data: data})
	eventually(t, "the helper holds its file", func() bool { return pidIn(pidFile) == former.pid })

	log := filepath.Join(dir, "fence.log")
	s := fence.Supervisor{
		Command: []string{"/usr/bin/env", helperVariable + "=" + pidFile + ",", "/proc/self/exe"},
		Dir:     dir, PIDFile: pidFile, LogFile: log, Logger: slog.New(slog.DiscardHandler),
		Beat: func() fence.Beat {
			return fence.Beat{Until: lease.Boottime() + time.Hour, Primary: true, Fenced: true, Data: data}
		},
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.Command[2] = exe // of env, which then is another program
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	former.await()
	eventually(t, "another holds the file", func() bool { pid := pidIn(pidFile); return pid > 0 && pid != former.pid })

	// It is started again if it dies.
	second := pidIn(pidFile)
	if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a third holds the file", func() bool { pid := pidIn(pidFile); return pid > 0 && pid != second })
	if !serves(t.Context(), c) {
		t.Error("PostgreSQL was closed by a helper that was replaced")
	}

	// It outlives its xpd while there is a PostgreSQL.
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v", err)
	}
	third := pidIn(pidFile)
	if err := syscall.Kill(third, 0); err != nil {
		t.Errorf("the helper ended with its xpd: %v", err)
	}
	c.Stop(0)
	eventually(t, "the helper is gone", func() bool { return !alive(third) })
	c.Start(0)
	if t.Failed() {
		text, _ := os.ReadFile(log)
		t.Logf("%s", text)
	}
}

func pidIn(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !alive(pid) {
		return 0
	}
	return pid
}

// alive reports whether pid runs, and is no zombie.
func alive(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil
}
