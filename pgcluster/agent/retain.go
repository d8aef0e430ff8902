package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

const retainInterval = 3 * time.Second

// retain keeps on a standby, until ctx ends, the WAL that other members have not
// got yet by what the primary knows of them. PostgreSQL bounds it by
// max_slot_wal_keep_size.
func (a *Agent) retain(ctx context.Context) {
	tick := time.NewTicker(retainInterval)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !a.retains() {
			continue
		}
		text := ""
		if err := a.retainOnce(ctx); err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		if text != "" && text != last {
			a.log.WarnContext(ctx, "WAL that others may need is not released, will retry", "error", text)
		}
		last = text
	}
}

// retains reports whether the node is a standby that was ordered to be one, or left alone
// as one: while people work on its host it must not fill the disk.
func (a *Agent) retains() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	kind := a.order.Kind
	follows := kind == pgcluster.OrderFollow || kind == pgcluster.OrderRestart || kind == pgcluster.OrderRest
	return follows && a.report.Running() && a.report.Role == pgcluster.RoleStandby && a.report.Receiver.Streaming
}

func (a *Agent) retainOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*slotTimeout)
	defer cancel()
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	// What is left of an epoch that the node led goes on as what only keeps WAL.
	if err := a.setSlots(ctx, conn, keepName, a.retains); err != nil {
		return fmt.Errorf("slots of a standby: %w", err)
	}
	if err := a.dropLogical(ctx, conn); err != nil {
		return err
	}
	s := a.state.get().Settings
	needed, err := a.neededFrom(ctx, s.Upstream, s.Stream)
	if err != nil {
		return err
	}
	return a.advanceSlots(ctx, conn, needed)
}

// neededFrom asks the primary which WAL each of its standbys needs.
func (a *Agent) neededFrom(ctx context.Context, primary pgcluster.NodeID, epoch uint64) (map[pgcluster.NodeID]pgcluster.LSN, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := a.connectTo(ctx, primary)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	all, err := listSlots(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("on %s: %w", primary, err)
	}
	needed := map[pgcluster.NodeID]pgcluster.LSN{}
	for name, s := range all {
		if e, id, ok := pgcluster.ParseSlotName(name); ok && e == epoch && s.restart != 0 {
			needed[id] = s.restart
		}
	}
	return needed, nil
}

// advanceSlots releases what nobody needs any more. All since this node's latest
// checkpoint stays: whoever has to be rewound needs WAL from before the place
// where it parted. It is there anyway.
func (a *Agent) advanceSlots(ctx context.Context, conn *pgx.Conn, needed map[pgcluster.NodeID]pgcluster.LSN) error {
	var text string
	if err := conn.QueryRow(ctx, "SELECT redo_lsn::text FROM pg_control_checkpoint()").Scan(&text); err != nil {
		return fmt.Errorf("look for the latest checkpoint: %w", err)
	}
	redo, err := pgcluster.ParseLSN(text)
	if err != nil {
		return err
	}
	a.slotting.Lock()
	defer a.slotting.Unlock()
	have, err := listSlots(ctx, conn)
	if err != nil {
		return err
	}
	for _, id := range a.peers() {
		s, ok := have[keepName(id)]
		to := redo
		if lsn, known := needed[id]; known {
			to = min(redo, lsn)
		}
		if !ok || s.restart == 0 || to <= s.restart {
			continue
		}
		if _, err := conn.Exec(ctx, "SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)", s.name, to.String()); err != nil {
			return fmt.Errorf("advance slot %s: %w", s.name, err)
		}
	}
	return nil
}
