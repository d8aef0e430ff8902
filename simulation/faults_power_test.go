package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// The moments of a shrink at which F17 loses the primary too.
var shrinkSteps = []struct {
	name  string
	reach func(ctx context.Context, s *simulation.Session, lost pgcluster.NodeID) error
}{
	{"at once", func(context.Context, *simulation.Session, pgcluster.NodeID) error { return nil }},
	{"as it is missed", awaitSilent},
	{"while PostgreSQL learns of the smaller set", func(ctx context.Context, s *simulation.Session, lost pgcluster.NodeID) error {
		return soon(ctx, "the sync set to shrink", func() (bool, error) {
			st, err := s.Client.Cluster(ctx)
			return err == nil && !strings.Contains(st.Sync, string(lost)), err
		})
	}},
	{"as Raft has the smaller set", func(ctx context.Context, s *simulation.Session, lost pgcluster.NodeID) error {
		return soon(ctx, "the end of the shrink", func() (bool, error) {
			events, err := s.Client.ClusterHistory(ctx, 1)
			return err == nil && len(events) == 1 && events[0].Kind == "shrink" && events[0].Node == lost, err
		})
	}},
}

func TestF17_StandbyThenPrimaryLost(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoadBy(t, faulttest.Rules{Patience: 3 * faultPatience}, func(ctx context.Context, s *simulation.Session) error {
		for i, step := range shrinkSteps {
			err := s.Disturb(ctx, "F17 "+step.name, func(ctx context.Context) error {
				primary, standbys, err := s.Roles(ctx)
				if err != nil {
					return err
				}
				lost := standbys[i%len(standbys)]
				if err := s.Cluster.KillNode(ctx, lost); err != nil {
					return err
				}
				if err := step.reach(ctx, s, lost); err != nil {
					return err
				}
				if err := s.Cluster.KillNode(ctx, primary); err != nil {
					return err
				}
				_, err = s.Cluster.WaitStatus(ctx, "writes are blocked", func(st failover.Status) bool {
					return st.Level == failover.LevelNoWrites
				})
				if err != nil {
					return err
				}
				// The standby that was lost may lack what was acknowledged since; whoever
				// decides must not promote it then, but wait for the primary.
				if err := s.Cluster.StartNode(lost); err != nil {
					return err
				}
				if err := s.Hold(ctx, time.Second); err != nil {
					return err
				}
				s.Repaired()
				return s.Cluster.StartNode(primary)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func TestF18_StandbyReturnsAndDies(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		_, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		id := standbys[0]
		return s.Disturb(ctx, "F18", func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error {
				if err := s.Cluster.KillNode(ctx, id); err != nil {
					return err
				}
				for _, until := range []struct {
					state string
					sync  bool
				}{{"crashed", false}, {"streaming", false}, {"streaming", true}} {
					_, err := s.Cluster.WaitStatus(ctx, "the sync set shrinks", func(st failover.Status) bool {
						return !strings.Contains(st.Sync, string(id))
					})
					if err != nil {
						return err
					}
					if err := s.Cluster.StartNode(id); err != nil {
						return err
					}
					if err := awaitReturn(ctx, s, id, until.state, until.sync); err != nil {
						return err
					}
					s.Say("%s is %s again and dies", id, until.state)
					if err := s.Cluster.KillNode(ctx, id); err != nil {
						return err
					}
					if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
						return fmt.Errorf("writes do not go on without %s: %w", id, err)
					}
				}
				s.Repaired()
				return s.Cluster.StartNode(id)
			})
		})
	})
	faulttest.ExpectMove(t, r, false)
}

// awaitReturn waits until a node is seen, at least in the given state, and in the
// sync set if that is asked for.
func awaitReturn(ctx context.Context, s *simulation.Session, id pgcluster.NodeID, state string, sync bool) error {
	return soon(ctx, fmt.Sprintf("%s to be %s", id, state), func() (bool, error) {
		st, err := s.Client.Cluster(ctx)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(st.Nodes, func(n failover.NodeStatus) bool { return n.ID == id })
		if i < 0 || st.Nodes[i].State == "silent" || (sync && !strings.Contains(st.Sync, string(id))) {
			return false, nil
		}
		return st.Nodes[i].State == state || st.Nodes[i].State == "streaming", nil
	})
}

func TestF20_PowerCycle(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoadBy(t, faulttest.Rules{Patience: 3 * faultPatience, Hung: 30 * time.Second}, func(ctx context.Context, s *simulation.Session) error {
		for _, order := range [][3]int{{0, 1, 2}, {1, 2, 0}, {2, 0, 1}} {
			primary, standbys, err := s.Roles(ctx)
			if err != nil {
				return err
			}
			nodes := []pgcluster.NodeID{primary, standbys[0], standbys[1]}
			names := []string{"the primary", "a standby", "the other standby"}
			title := fmt.Sprintf("F20 %s, %s, %s return", names[order[0]], names[order[1]], names[order[2]])
			err = s.Disturb(ctx, title, func(ctx context.Context) error {
				if err := killAll(ctx, s); err != nil {
					return err
				}
				s.Repaired()
				for _, i := range order {
					if err := s.Cluster.StartNode(nodes[i]); err != nil {
						return err
					}
					if err := s.Hold(ctx, 700*time.Millisecond); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// killAll cuts the power of every node, as close to one moment as processes allow.
func killAll(ctx context.Context, s *simulation.Session) error {
	errs := make(chan error)
	members := s.Cluster.Members()
	for _, m := range members {
		go func() { errs <- s.Cluster.KillNode(ctx, m.ID) }()
	}
	var all error
	for range members {
		all = errors.Join(all, <-errs)
	}
	return all
}

func TestF21_StaleStandbyFirst(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoadBy(t, faulttest.Rules{Patience: 2 * faultPatience, Hung: 30 * time.Second}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F21", func(ctx context.Context) error {
			primary, standbys, err := s.Roles(ctx)
			if err != nil {
				return err
			}
			stale, fresh := standbys[0], standbys[1]
			if err := s.Cluster.KillNode(ctx, stale); err != nil {
				return err
			}
			_, err = s.Cluster.WaitStatus(ctx, "the sync set shrinks", func(st failover.Status) bool {
				return !strings.Contains(st.Sync, string(stale))
			})
			if err != nil {
				return err
			}
			if err := s.AwaitEnrolment(ctx, time.Now()); err != nil { // which the stale one lacks
				return err
			}
			if err := errors.Join(s.Cluster.KillNode(ctx, primary), s.Cluster.KillNode(ctx, fresh)); err != nil {
				return err
			}
			// A majority of Raft is up, and of PostgreSQL only what is stale.
			control := filepath.Join(s.Cluster.Dir(), string(fresh), "pg", "data", "global", "pg_control")
			if err := os.Chmod(control, 0); err != nil {
				return err
			}
			if err := errors.Join(s.Cluster.StartNode(stale), s.Cluster.StartNode(fresh)); err != nil {
				return err
			}
			if err := refusesToLead(ctx, s, stale, fresh); err != nil {
				return err
			}
			if err := os.Chmod(control, 0o600); err != nil {
				return err
			}
			if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
				return fmt.Errorf("writes do not go on once %s is back: %w", fresh, err)
			}
			s.Repaired()
			return s.Cluster.StartNode(primary)
		})
	})
}

// refusesToLead waits until the PostgreSQL of a node answers and checks for some
// seconds that it is no primary, and that the status names whom writes wait for: others
// of the sync set, in which only fresh is beside the primary.
func refusesToLead(ctx context.Context, s *simulation.Session, id, fresh pgcluster.NodeID) error {
	const watched = 5 * time.Second
	recovering := false
	check := func() error {
		conn, err := s.Cluster.Admin(ctx, id)
		if err != nil {
			return nil // it does not answer now: it leads nobody
		}
		defer conn.Close(ctx)
		if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&recovering); err == nil && !recovering {
			return fmt.Errorf("%s was promoted although it lacks what was acknowledged", id)
		}
		return nil
	}
	err := soonish(ctx, "the stale standby to answer", func() bool { return check() != nil || recovering })
	if err != nil {
		return err
	}
	for end := time.Now().Add(watched); time.Now().Before(end); {
		if err := errors.Join(check(), s.Hold(ctx, 100*time.Millisecond)); err != nil {
			return err
		}
	}
	blocked, err := s.Cluster.WaitStatus(ctx, "writes are blocked for want of another node", func(st failover.Status) bool {
		_, needed, ok := strings.Cut(st.Writes, "a failover needs one of: ")
		return ok && !strings.Contains(needed, string(id)) && strings.Contains(st.Sync, string(fresh)) && !strings.Contains(st.Sync, string(id))
	})
	s.Say("%s", blocked.Writes)
	return err
}

func TestF47_Reboot(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoadBy(t, faulttest.Rules{Patience: 2 * faultPatience, Hung: 30 * time.Second}, func(ctx context.Context, s *simulation.Session) error {
		err := s.Disturb(ctx, "F47 of the primary's host, quickly", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			if err := s.Cluster.KillNode(ctx, primary); err != nil {
				return err
			}
			end, err := takePID(s, primary)
			if err != nil {
				return err
			}
			defer end()
			s.Repaired()
			if err := s.Cluster.StartNode(primary); err != nil {
				return err
			}
			return s.AwaitEnrolment(ctx, time.Now())
		})
		if err != nil {
			return err
		}
		return s.Disturb(ctx, "F47 of all hosts, the primary's is first and alone", func(ctx context.Context) error {
			primary, standbys, err := s.Roles(ctx)
			if err != nil {
				return err
			}
			if err := killAll(ctx, s); err != nil {
				return err
			}
			end, err := takePID(s, primary)
			if err != nil {
				return err
			}
			defer end()
			if err := s.Cluster.StartNode(primary); err != nil {
				return err
			}
			if err := staysShut(ctx, s, primary); err != nil {
				return err
			}
			s.Repaired()
			return errors.Join(s.Cluster.StartNode(standbys[0]), s.Cluster.StartNode(standbys[1]))
		})
	})
}

// takePID gives the number in the lock file that a power cut left to a process
// which has nothing to do with it, as happens after a reboot.
func takePID(s *simulation.Session, id pgcluster.NodeID) (end func(), err error) {
	owner, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("sleep", "120")
	if os.Getuid() == 0 {
		uid, err1 := strconv.ParseUint(owner.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(owner.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	path := filepath.Join(s.Cluster.Dir(), string(id), "pg", "data", "postmaster.pid")
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the killed PostgreSQL left no lock file: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, it says so
	}
	_, rest, _ := strings.Cut(string(content), "\n")
	if err := os.WriteFile(path, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"+rest), 0o600); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// staysShut checks for some seconds that a node which is alone lets nobody write. Its
// PostgreSQL need not even run, without a leader to order it; its xpd must, and says that
// it is no primary.
func staysShut(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) error {
	const watched = 4 * time.Second
	alive := func() bool {
		status, _ := s.Cluster.Get(ctx, id, "/healthz")
		return status == http.StatusOK
	}
	if err := soonish(ctx, "xpd of "+string(id)+" to answer", alive); err != nil {
		return err
	}
	for end := time.Now().Add(watched); time.Now().Before(end); {
		conn, err := s.Cluster.Admin(ctx, id)
		if err == nil {
			var shut bool
			err = conn.QueryRow(ctx, `SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'`).Scan(&shut)
			conn.Close(ctx)
			if err == nil && !shut {
				return fmt.Errorf("PostgreSQL of %s opened by itself", id)
			}
		}
		if err := s.Hold(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	if status, text := s.Cluster.Get(ctx, id, "/primary"); status != http.StatusServiceUnavailable {
		return fmt.Errorf("/primary of %s, which is alone: %d %s", id, status, text)
	}
	return nil
}
