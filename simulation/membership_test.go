package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/osuser"
	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// Three nodes become five, of which commits wait for two standbys; then a first one
// and a new one go, and three are left.
func TestF39_MembersAddedAndRemoved(t *testing.T) { //nolint:paralleltest // see faults_test.go
	slow(t)
	own(t, &bed{}).underLoad(t, faulttest.Rules{Patience: 4 * time.Minute}, func(ctx context.Context, s *simulation.Session) error {
		err := s.Disturb(ctx, "F39, 3 to 5", func(ctx context.Context) error {
			for range 2 {
				id, err := s.Cluster.AddNode(ctx, localcluster.Newcomer{})
				if err != nil {
					return fmt.Errorf("add %s: %w", id, err)
				}
			}
			if err := s.Cluster.WaitReady(ctx); err != nil {
				return err
			}
			return awaitK(ctx, s, 2, 4)
		})
		if err != nil {
			return err
		}
		_, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		for _, id := range []pgcluster.NodeID{standbys[0], "n5"} {
			if err := s.Disturb(ctx, "F39, without "+string(id), func(ctx context.Context) error {
				return s.Cluster.RemoveNode(ctx, id)
			}); err != nil {
				return err
			}
		}
		if err := awaitK(ctx, s, 1, 2); err != nil {
			return err
		}
		return s.Disturb(ctx, "F39, then F1", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			return s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) })
		})
	})
}

// awaitK waits until commits wait for k of n standbys.
func awaitK(ctx context.Context, s *simulation.Session, k, n int) error {
	_, err := s.Cluster.WaitStatus(ctx, fmt.Sprintf("commits wait for %d of %d", k, n), func(st failover.Status) bool {
		streaming := 0
		for _, node := range st.Nodes {
			if node.State == "streaming" && node.Sync == "sync" {
				streaming++
			}
		}
		return streaming == n && st.Level != failover.LevelNoWrites && hasK(st.Sync, k)
	})
	return err
}

// awaitReplaceable waits until the loss of the primary would be survived.
func awaitReplaceable(ctx context.Context, s *simulation.Session) error {
	_, err := s.Cluster.WaitStatus(ctx, "the primary can be replaced", func(st failover.Status) bool {
		return slices.ContainsFunc(st.IfDies, func(l failover.Loss) bool { return l.Node == st.Primary && l.Safe })
	})
	return err
}

// hasK reports whether a rule in the notation of PostgreSQL waits for k.
func hasK(rule string, k int) bool {
	var got int
	_, err := fmt.Sscanf(rule, "ANY %d", &got)
	return err == nil && got == k
}

// Two nodes with data and a witness: the witness makes the majority when either of the
// others is lost. In mode available writes go on with the last node.
func TestF40_TwoNodesAndAWitness(t *testing.T) { //nolint:paralleltest // see faults_test.go
	slow(t)
	b := own(t, &bed{tune: func(o *localcluster.Options) { o.Witnesses = 1 }})
	b.underLoad(t, faulttest.Rules{Patience: 3 * time.Minute}, func(ctx context.Context, s *simulation.Session) error {
		mode := failover.ModeAvailable
		if _, err := s.Client.ChangeClusterSettings(ctx, client.SettingsChange{Mode: &mode}); err != nil {
			return err
		}
		if _, err := s.Client.AddMember(ctx, "n3=127.0.0.1:1:2:3", ""); err == nil {
			return errors.New("the witness's name is taken, and was given away")
		}
		for _, round := range []struct {
			name string
			lost func(primary, standby pgcluster.NodeID) pgcluster.NodeID
		}{
			{"F40, the witness is lost", func(_, _ pgcluster.NodeID) pgcluster.NodeID { return "n3" }},
			{"F40, the standby is lost", func(_, standby pgcluster.NodeID) pgcluster.NodeID { return standby }},
			{"F40, the primary is lost", func(primary, _ pgcluster.NodeID) pgcluster.NodeID { return primary }},
		} {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			// With k = 0, as long as the last loss was not made good, nobody else may
			// be promoted, also while PostgreSQL waits for one again and Raft does not
			// have that yet.
			if err := errors.Join(awaitK(ctx, s, 1, 1), awaitReplaceable(ctx, s)); err != nil {
				return err
			}
			lost := round.lost(primary, other(primary))
			if err := s.Disturb(ctx, round.name, func(ctx context.Context) error { return loseForAWhile(ctx, s, lost) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// other is the other one of the first two nodes.
func other(id pgcluster.NodeID) pgcluster.NodeID {
	if id == "n1" {
		return "n2"
	}
	return "n1"
}

// loseForAWhile takes a node's power away, waits until writes go on without it, and
// gives it back.
func loseForAWhile(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) error {
	if err := s.Cluster.KillNode(ctx, id); err != nil {
		return err
	}
	gone := time.Now()
	if err := awaitState(ctx, s, id, "silent"); err != nil {
		return err
	}
	if err := s.AwaitEnrolment(ctx, gone); err != nil {
		return fmt.Errorf("writes do not go on without %s: %w", id, err)
	}
	s.Repaired()
	return s.Cluster.StartNode(id)
}

// Every xpd is replaced, one after the other, while PostgreSQL runs on.
func TestF46_RollingUpgradeOfXPD(t *testing.T) { //nolint:paralleltest // see faults_test.go
	slow(t)
	b := own(t, &bed{tune: func(o *localcluster.Options) { o.KeepPostgres = true }})
	b.underLoad(t, faulttest.Rules{}, func(ctx context.Context, s *simulation.Session) error {
		primary, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		for _, id := range append(standbys, primary) {
			if err := s.Disturb(ctx, "F46 on "+string(id), func(ctx context.Context) error { return upgradeXPD(ctx, s, id) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// upgradeXPD restarts an xpd and checks that PostgreSQL noticed none of it.
func upgradeXPD(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) error {
	epoch, err := s.Epoch(ctx)
	if err != nil {
		return err
	}
	started, err := postgresStarted(ctx, s, id)
	if err != nil {
		return err
	}
	if err := s.Cluster.RestartXPD(ctx, id); err != nil {
		return err
	}
	if err := s.Cluster.WaitReady(ctx); err != nil {
		return err
	}
	if now, err := s.Epoch(ctx); err != nil || now != epoch {
		return errors.Join(fmt.Errorf("epoch %d became %d", epoch, now), err)
	}
	if now, err := postgresStarted(ctx, s, id); err != nil || !now.Equal(started) {
		return errors.Join(fmt.Errorf("PostgreSQL of %s was restarted", id), err)
	}
	return nil
}

// Who is not who it should be does not get in: a node with data of another PostgreSQL,
// one under a name that is taken, and one that is said to be somebody else.
func TestF48_StrangersAreRefused(t *testing.T) { //nolint:paralleltest // see faults_test.go
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F48", func(ctx context.Context) error {
			m, err := s.Cluster.StartNewcomer(ctx, localcluster.Newcomer{Prepare: initForeign(ctx, pgtest.BinDir(t))})
			if err != nil {
				return err
			}
			asN2, renamed := m, m
			asN2.ID, renamed.ID = "n2", "n9"
			for want, m := range map[string]pgcluster.Member{
				"another PostgreSQL system": m,
				"there is a node n2":        asN2,
				"answers at":                renamed,
			} {
				_, err := s.Client.AddMember(ctx, m.String(), "test")
				p, refused := errors.AsType[*client.Problem](err)
				if !refused || p.Status != http.StatusConflict || !strings.Contains(p.Detail, want) {
					return fmt.Errorf("%s is added: %w; want it refused with %q", m, err, want)
				}
			}
			return s.Cluster.StopNode(ctx, m.ID)
		})
	})
}

// initForeign returns a function that makes a data directory of a PostgreSQL which has
// nothing to do with the cluster.
func initForeign(ctx context.Context, bin string) func(dir string) error {
	return func(dir string) error {
		cred, err := osuser.Credential("postgres")
		if err != nil {
			return err
		}
		pg := filepath.Join(dir, "pg")
		if err := os.Mkdir(pg, 0o755); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", filepath.Join(pg, "data"), "--no-sync")
		if cred != nil {
			if err := os.Chown(pg, int(cred.Uid), int(cred.Gid)); err != nil {
				return err
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		}
		cmd.Dir = pg
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

// Two of three nodes are lost for good, and with them the majority of Raft: the last
// one, which was primary, is made a group of its own and takes others in.
func TestF50_RaftMajorityLostForGood(t *testing.T) { //nolint:paralleltest // see faults_test.go
	slow(t)
	own(t, &bed{}).underLoad(t, faulttest.Rules{MayFail: true, Patience: 3 * time.Minute}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F50", func(ctx context.Context) error {
			primary, lost, err := s.Roles(ctx)
			if err != nil {
				return err
			}
			for _, id := range lost {
				if err := s.Cluster.KillNode(ctx, id); err != nil {
					return err
				}
			}
			if err := s.Cluster.KillXPD(primary); err != nil {
				return err
			}
			i := slices.IndexFunc(s.Cluster.Members(), func(m pgcluster.Member) bool { return m.ID == primary })
			if err := s.Cluster.Recover(ctx, primary, s.Cluster.Members()[i]); err != nil {
				return err
			}
			s.Repaired()
			if err := s.Cluster.StartNode(primary); err != nil {
				return err
			}
			for _, id := range lost {
				added, err := s.Cluster.AddNode(ctx, localcluster.Newcomer{})
				if err != nil {
					return fmt.Errorf("add %s: %w", added, err)
				}
				if err := awaitState(ctx, s, added, "streaming"); err != nil {
					return err
				}
				if err := s.Cluster.RemoveNode(ctx, id); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
