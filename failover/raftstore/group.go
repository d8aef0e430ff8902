package raftstore

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Fresh reports whether this node's Raft began with nothing when it was opened: what
// Options.Members says was of interest.
func (s *Store) Fresh() bool { return s.fresh }

// Servers returns the Raft group as this node last heard of it, voters and others.
func (s *Store) Servers() []failover.Server {
	conf := s.raft.GetConfiguration() // from memory: it never fails
	if conf.Error() != nil {
		return nil
	}
	var out []failover.Server
	for _, v := range conf.Configuration().Servers {
		out = append(out, failover.Server{ID: pgcluster.NodeID(v.ID), Addr: string(v.Address), Voter: v.Suffrage == raft.Voter})
	}
	return out
}

// ChangeGroup adds, promotes or removes one server; doing so again changes nothing.
// It fails with failover.ErrNotLeader on a node that does not lead, and with
// failover.ErrUncertain if leadership or ctx ended first.
func (s *Store) ChangeGroup(ctx context.Context, c failover.GroupChange) error {
	id, addr := raft.ServerID(c.Server.ID), raft.ServerAddress(c.Server.Addr)
	var f raft.IndexFuture
	switch c.Step {
	case failover.GroupAdd:
		f = s.raft.AddNonvoter(id, addr, 0, enqueueTimeout)
	case failover.GroupPromote:
		f = s.raft.AddVoter(id, addr, 0, enqueueTimeout)
	case failover.GroupRemove:
		f = s.raft.RemoveServer(id, 0, enqueueTimeout)
	case failover.GroupLeave:
		fallthrough // the caller hands leadership over
	default:
		return fmt.Errorf("change Raft group: invalid step %q", c.Step)
	}
	if err := wait(ctx, f); err != nil {
		return fmt.Errorf("change Raft group: %s %s: %w", c.Step, c.Server.ID, err)
	}
	if c.Step == failover.GroupRemove {
		s.gates.forget(id)
		// A change of the group moves the index of no state machine, and Raft refuses a
		// snapshot that is older than the group. A barrier moves it.
		_ = wait(ctx, s.raft.Barrier(enqueueTimeout))
	}
	return nil
}

// TransferLeadership makes to the leader, or fails within the time of an election.
func (s *Store) TransferLeadership(ctx context.Context, to pgcluster.NodeID) error {
	for _, v := range s.Servers() {
		if v.ID != to {
			continue
		}
		if !v.Voter {
			return fmt.Errorf("transfer leadership: %s does not vote yet", to)
		}
		if err := wait(ctx, s.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(v.Addr))); err != nil {
			return fmt.Errorf("transfer leadership to %s: %w", to, err)
		}
		return nil
	}
	return fmt.Errorf("transfer leadership: there is no node %q", to)
}
