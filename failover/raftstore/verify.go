package raftstore

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/xpd-platform/xpd/failover"
)

// Verify returns nil if this node leads at a moment after the call, as a majority
// confirms, and State shows all that was saved before. It fails with
// failover.ErrNotLeader on a node that does not lead or has passed no Barrier in its
// term yet, and with failover.ErrUncertain if leadership or ctx ended first.
func (s *Store) Verify(ctx context.Context) error {
	term := s.raft.CurrentTerm()
	if s.raft.State() != raft.Leader || s.barrier.Load() != term {
		return fmt.Errorf("verify leadership: %w", failover.ErrNotLeader)
	}
	if err := wait(ctx, s.raft.VerifyLeader()); err != nil {
		return fmt.Errorf("verify leadership: %w", err)
	}
	if s.raft.CurrentTerm() != term {
		return fmt.Errorf("verify leadership: the term changed: %w", failover.ErrNotLeader)
	}
	return nil
}
