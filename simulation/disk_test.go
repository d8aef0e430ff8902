package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// mount makes a small file system of its own out of a folder of a node.
type mount func(t *testing.T, dir string) error

// memory mounts a file system of the given size that can be filled.
func memory(folder, size string) mount {
	return func(t *testing.T, dir string) error {
		t.Helper()
		requireRoot(t)
		path := filepath.Join(dir, folder)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		return command("mount", "-t", "tmpfs", "-o", "mode=0755,size="+size, "tmpfs", path)
	}
}

// file mounts a file system, on a file beside the folder, that can be frozen: what
// is written to it waits, as on a disk that does not answer.
func file(folder, size string) mount {
	return func(t *testing.T, dir string) error {
		t.Helper()
		requireRoot(t)
		path, image := filepath.Join(dir, folder), filepath.Join(dir, folder+".img")
		for _, need := range []string{"mkfs.ext4", "fsfreeze"} {
			if _, err := exec.LookPath(need); err != nil {
				t.Skipf("there is no %s to make a disk that stalls", need)
			}
		}
		if err := errors.Join(os.MkdirAll(path, 0o755), os.WriteFile(image, nil, 0o600)); err != nil {
			return err
		}
		if err := errors.Join(command("truncate", "-s", size, image), command("mkfs.ext4", "-q", "-F", image)); err != nil {
			return err
		}
		if err := command("mount", "-o", "loop", image, path); err != nil {
			t.Skipf("this kernel has no loop devices to make a disk that stalls: %v", err)
		}
		return nil
	}
}

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk takes root")
	}
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// unmount takes the file systems away that are mounted in the folder of c.
func unmount(c *localcluster.Cluster) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], c.Dir()+"/") {
			errs = append(errs, command("umount", f[1]))
		}
	}
	return errors.Join(errs...)
}

// withDisks returns a bed whose nodes have a file system of their own.
func withDisks(t *testing.T, m mount) *bed {
	t.Helper()
	return own(t, &bed{
		settings: []string{"wal_keep_size=32MB", "max_wal_size=64MB", "min_wal_size=32MB"},
		prepare:  m, ruin: unmount,
	})
}

// fill leaves no byte free on the file system of a node's folder and returns what
// gives the space back.
func fill(s *simulation.Session, id pgcluster.NodeID, folder string) (empty func() error, err error) {
	dir := filepath.Join(s.Cluster.Dir(), string(id), folder)
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int64(0)
	for chunk := int64(64 << 20); chunk >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, size, chunk)
		switch {
		case err == nil:
			size += chunk
		case errors.Is(err, unix.ENOSPC):
			chunk /= 2
		default:
			return nil, fmt.Errorf("fill %s: %w", dir, err)
		}
	}
	s.Say("the disk of %s below %s is full", folder, id)
	return func() error { return os.Remove(filler) }, nil
}

// freeze makes writes to the file system of a node's folder wait, and returns what
// lets them go on. It does so once.
func freeze(s *simulation.Session, id pgcluster.NodeID, folder string) (thaw func() error, err error) {
	dir := filepath.Join(s.Cluster.Dir(), string(id), folder)
	if err := command("fsfreeze", "-f", dir); err != nil {
		return nil, err
	}
	s.Say("the disk of %s below %s stalls", folder, id)
	frozen := true
	return func() error {
		if !frozen {
			return nil
		}
		frozen = false
		return command("fsfreeze", "-u", dir)
	}, nil
}

func TestF29_CloneMeetsAFullDisk(t *testing.T) { //nolint:paralleltest // one cluster at a time
	slow(t)
	b := withDisks(t, memory("pg", "512M"))
	r := b.underLoad(t, faulttest.Rules{Patience: 3 * faultPatience}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F29 disk full while cloning", func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error {
				_, standbys, err := s.Roles(ctx)
				if err != nil {
					return err
				}
				id := standbys[0]
				if err := s.Cluster.KillNode(ctx, id); err != nil {
					return err
				}
				if err := os.RemoveAll(filepath.Join(s.Cluster.Dir(), string(id), "pg", "data")); err != nil {
					return err
				}
				empty, err := fill(s, id, "pg")
				if err != nil {
					return err
				}
				log, err := watchLog(s, id)
				if err != nil {
					return err
				}
				if err := s.Cluster.StartNode(id); err != nil {
					return err
				}
				said, err := log.await(ctx, "order not carried out", "MB are free")
				if err != nil {
					return err
				}
				s.Say("%s", said)
				s.Repaired()
				return empty()
			})
		})
	})
	faulttest.ExpectMove(t, r, false)
}

func TestF30_WALDiskFull(t *testing.T) { //nolint:paralleltest // one cluster at a time
	slow(t)
	b := withDisks(t, memory("pg", "512M"))
	r := b.underLoad(t, faulttest.Rules{Patience: faultPatience}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F30 disk full on pg_wal", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			empty := func() error { return nil }
			err = s.Failover(ctx, func() (err error) {
				if empty, err = fill(s, primary, "pg"); err != nil {
					return err
				}
				return exhaustWAL(ctx, s, primary)
			})
			if err != nil {
				return errors.Join(err, empty())
			}
			// The old primary cannot come back yet; nobody minds.
			if err := errors.Join(s.Hold(ctx, 2*time.Second), s.AwaitEnrolment(ctx, time.Now())); err != nil {
				return err
			}
			s.Repaired()
			return empty()
		})
	})
	faulttest.ExpectMove(t, r, true)
}

// exhaustWAL makes the primary need WAL files that its disk has no room for.
func exhaustWAL(ctx context.Context, s *simulation.Session, primary pgcluster.NodeID) error {
	conn, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for range 200 {
		_, err = conn.Exec(ctx, `SELECT pg_logical_emit_message(false, 'full', repeat('x', 1048576))`)
		if err != nil {
			s.Say("PostgreSQL of %s says: %v", primary, err)
			return nil // it is down, which the failover shows
		}
	}
	return errors.New("PostgreSQL wrote 200 MB to a full disk")
}

func TestF30_RaftDiskFull(t *testing.T) { //nolint:paralleltest // one cluster at a time
	slow(t)
	b := withDisks(t, memory("raft", "16M"))
	b.underLoad(t, faulttest.Rules{Patience: 2 * faultPatience}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F30 disk full on the leader's Raft disk", func(ctx context.Context) error {
			l, primary, err := parts(ctx, s)
			if err != nil {
				return err
			}
			empty, err := fill(s, l, "raft")
			if err != nil {
				return err
			}
			// Decisions must still be possible: without its disk the leader cannot make any.
			err = s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) })
			s.Repaired()
			return errors.Join(err, empty())
		})
	})
}

func TestF31_DiskStalls(t *testing.T) { //nolint:paralleltest // one cluster at a time
	slow(t)
	b := withDisks(t, file("pg", "1G"))
	r := b.underLoad(t, faulttest.Rules{Patience: 2 * faultPatience, Hung: 25 * time.Second}, func(ctx context.Context, s *simulation.Session) error {
		err := s.Disturb(ctx, "F31 on a standby", func(ctx context.Context) error {
			_, standbys, err := s.Roles(ctx)
			if err != nil {
				return err
			}
			return sameEpoch(ctx, s, func() error {
				thaw, err := freeze(s, standbys[0], "pg")
				if err != nil {
					return err
				}
				err = errors.Join(s.Hold(ctx, 6*time.Second), s.AwaitEnrolment(ctx, time.Now()))
				s.Repaired()
				return errors.Join(err, thaw())
			})
		})
		if err != nil {
			return err
		}
		return s.Disturb(ctx, "F31 on the primary", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			thaw := func() error { return nil }
			err = s.Failover(ctx, func() (err error) {
				thaw, err = freeze(s, primary, "pg")
				return err
			})
			s.Repaired()
			return errors.Join(err, thaw())
		})
	})
	if len(r.Disturbances) == 2 {
		faulttest.ExpectMove(t, simulation.Report{Disturbances: r.Disturbances[:1]}, false)
		faulttest.ExpectMove(t, simulation.Report{Disturbances: r.Disturbances[1:]}, true)
	}
}

func TestF31_RaftDiskOfTheLeaderStalls(t *testing.T) { //nolint:paralleltest // one cluster at a time
	slow(t)
	b := withDisks(t, file("raft", "64M"))
	b.underLoad(t, faulttest.Rules{Patience: faultPatience, Hung: 25 * time.Second}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F31 on the leader's Raft disk", func(ctx context.Context) error {
			l, primary, err := parts(ctx, s)
			if err != nil {
				return err
			}
			thaw, err := freeze(s, l, "raft")
			if err != nil {
				return err
			}
			err = s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) })
			s.Repaired()
			return errors.Join(err, thaw())
		})
	})
}
