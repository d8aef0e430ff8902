package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
)

// What people do with single nodes, under load: no request fails.

func nodeIn(st failover.Status, id pgcluster.NodeID) failover.NodeStatus {
	i := slices.IndexFunc(st.Nodes, func(n failover.NodeStatus) bool { return n.ID == id })
	return st.Nodes[i]
}

// awaitReleased waits until the cluster does without id, as people asked.
func awaitReleased(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) error {
	_, err := s.Cluster.WaitStatus(ctx, fmt.Sprintf("the cluster does without %s", id), func(st failover.Status) bool {
		n := nodeIn(st, id)
		return n.Absent != nil && n.Released
	})
	return err
}

// awaitBack waits until id is waited for again.
func awaitBack(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) error {
	_, err := s.Cluster.WaitStatus(ctx, fmt.Sprintf("%s is back", id), func(st failover.Status) bool {
		n := nodeIn(st, id)
		return n.Absent == nil && n.State == "streaming" && n.Sync == "sync"
	})
	return err
}

// down returns an error unless PostgreSQL on id is down, now and for a second.
func down(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) error {
	asked := func() error {
		st, err := statusOf(ctx, s, id)
		if err != nil {
			return err
		}
		if n := nodeIn(st, id); n.State != string(pgcluster.ProcessCrashed) && n.State != string(pgcluster.ProcessStopped) {
			err = fmt.Errorf("%s is %s, although people have the cluster do without it", id, n.State)
		}
		return err
	}
	_, err := s.Cluster.WaitStatus(ctx, fmt.Sprintf("%s is down", id), func(st failover.Status) bool {
		n := nodeIn(st, id)
		return n.State == string(pgcluster.ProcessCrashed) || n.State == string(pgcluster.ProcessStopped)
	})
	return errors.Join(err, s.Hold(ctx, time.Second), asked())
}

func TestMaintenance(t *testing.T) { //nolint:paralleltest // they share a cluster
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		_, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		id := standbys[0]
		return s.Disturb(ctx, "maintenance of "+string(id), func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error {
				if _, err := s.Client.SetMaintenance(ctx, id, time.Hour, "kernel update"); err != nil {
					return err
				}
				if err := awaitReleased(ctx, s, id); err != nil {
					return err
				}
				err := errors.Join(s.Cluster.KillPostgres(id), down(ctx, s, id))
				if err != nil {
					return err
				}
				s.Repaired()
				return errors.Join(s.Client.EndMaintenance(ctx, id, "done"), awaitBack(ctx, s, id))
			})
		})
	})
}

func TestReclone(t *testing.T) { //nolint:paralleltest // they share a cluster
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		_, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		for i, discard := range []bool{false, true} {
			id := standbys[i]
			err := s.Disturb(ctx, fmt.Sprintf("reclone of %s, discard %t", id, discard), func(ctx context.Context) error {
				return sameEpoch(ctx, s, func() error { return recloned(ctx, s, id, discard) })
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// recloned has the data of id replaced, and sees that the old ones are gone.
func recloned(ctx context.Context, s *simulation.Session, id pgcluster.NodeID, discard bool) error {
	pg := filepath.Join(s.Cluster.Dir(), string(id), "pg")
	marker := filepath.Join(pg, "data", "marker")
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		return err
	}
	if _, err := s.Client.Reclone(ctx, id, discard, "bad blocks"); err != nil {
		return err
	}
	// First: a node that has not heard of it yet says that all is well.
	err := soonish(ctx, fmt.Sprintf("%s to have other data", id), func() bool {
		_, err := os.Stat(marker)
		return errors.Is(err, fs.ErrNotExist)
	})
	if err == nil {
		err = awaitBack(ctx, s, id)
	}
	if err != nil {
		return err
	}
	return soonish(ctx, fmt.Sprintf("the old data of %s to be deleted", id), func() bool {
		old, err := filepath.Glob(filepath.Join(pg, "data.*"))
		return err == nil && len(old) == 0
	})
}

func TestFence(t *testing.T) { //nolint:paralleltest // they share a cluster
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		primary, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		id := standbys[0]
		err = s.Disturb(ctx, "fence of standby "+string(id), func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error {
				if _, err := s.Client.Fence(ctx, id, "bad blocks"); err != nil {
					return err
				}
				err := errors.Join(awaitReleased(ctx, s, id), down(ctx, s, id))
				if err != nil {
					return err
				}
				s.Repaired()
				return errors.Join(s.Client.Unfence(ctx, id, "disk replaced"), awaitBack(ctx, s, id))
			})
		})
		if err != nil {
			return err
		}
		return s.Disturb(ctx, "fence of primary "+string(primary), func(ctx context.Context) error {
			return fencePrimary(ctx, s, primary)
		})
	})
}

// fencePrimary sees that nobody takes over until people say so, and that the trail says
// who did.
func fencePrimary(ctx context.Context, s *simulation.Session, primary pgcluster.NodeID) error {
	err := s.Failover(ctx, func() error {
		before, err := s.Epoch(ctx)
		if err != nil {
			return err
		}
		if _, err = s.Client.Fence(ctx, primary, "bad blocks"); err == nil {
			err = down(ctx, s, primary)
		}
		if err != nil {
			return err
		}
		now, err := statusOf(ctx, s, primary)
		if err != nil || now.Epoch != before || now.Op != nil || now.Level != failover.LevelNoWrites {
			return errors.Join(fmt.Errorf("after the fence: epoch %d, was %d; level %s, operation %+v", now.Epoch, before, now.Level, now.Op), err)
		}
		_, err = s.Client.Switchover(ctx, "", "the disk is broken")
		return err
	})
	if err == nil {
		err = down(ctx, s, primary)
	}
	if err != nil {
		return err
	}
	s.Repaired()
	if err := errors.Join(s.Client.Unfence(ctx, primary, "disk replaced"), awaitBack(ctx, s, primary)); err != nil {
		return err
	}
	entries, err := s.Client.ClusterAudit(ctx, 200)
	if err != nil {
		return err
	}
	var actions []string
	for _, e := range entries {
		actions = append(actions, e.Action)
	}
	want := []string{"fence " + string(primary), "switchover", "unfence " + string(primary)}
	if len(actions) < 3 || !slices.Equal(actions[len(actions)-3:], want) {
		return fmt.Errorf("the audit trail ends in %q, want %q", actions, want)
	}
	return nil
}
