package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/pgcluster"
)

// keepPrefix begins the names of the slots of a standby. Nobody streams through
// them: they keep the WAL that other members would need, should this node be
// promoted.
const keepPrefix = "xpd_keep_"

func keepName(id pgcluster.NodeID) string { return keepPrefix + string(id) }

// slotTimeout bounds the work on slots. A walsender that has to end first may be
// busy writing to a peer that does not read.
const slotTimeout = 5 * time.Second

// slot is a physical replication slot of ours.
type slot struct {
	name    string
	pid     int           // of the walsender that holds it, or 0
	lost    bool          // WAL that it should have kept is gone
	restart pgcluster.LSN // the oldest WAL that it keeps; 0 if none
}

// node returns the member that s is for.
func (s slot) node() pgcluster.NodeID {
	if id, ok := strings.CutPrefix(s.name, keepPrefix); ok {
		return pgcluster.NodeID(id)
	}
	_, id, _ := pgcluster.ParseSlotName(s.name)
	return id
}

// usable reports whether s can stay as it is. One that lost its WAL is made anew,
// so that whoever is cloned next can stream through it.
func (s slot) usable() bool { return !s.lost || s.pid != 0 }

// peers are the other members that have a PostgreSQL.
func (a *Agent) peers() []pgcluster.NodeID {
	var ids []pgcluster.NodeID
	for _, m := range a.members() {
		if m.ID != a.o.Node && m.Data() {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// serve lets standbys stream from this node on the orders of epoch, and of no
// other: it makes the epoch's slots, ends every other one and those who stream
// through it, and only then lets replication log in. It may be repeated, and
// mends what has changed since.
func (a *Agent) serve(ctx context.Context, epoch uint64) error {
	if err := a.prepareSlots(ctx, epoch); err != nil {
		return err
	}
	if a.state.get().Settings.Serving {
		return nil
	}
	return a.apply(func(s *settings) { s.Serving = true })
}

func (a *Agent) prepareSlots(ctx context.Context, epoch uint64) error {
	conn, err := a.admin(ctx)
	if err != nil {
		return err
	}
	name := func(id pgcluster.NodeID) string { return pgcluster.SlotName(epoch, id) }
	if err := a.setSlots(ctx, conn, name, func() bool { return true }); err != nil {
		return fmt.Errorf("slots of epoch %d: %w", epoch, err)
	}
	return a.endStrangers(ctx, conn, epoch)
}

// setSlots makes the slots that name gives for each peer the only ones of ours, if
// that is still wanted. A new slot keeps what an older one of the same peer has kept.
func (a *Agent) setSlots(ctx context.Context, conn *pgx.Conn, name func(pgcluster.NodeID) string, wanted func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	a.slotting.Lock()
	defer a.slotting.Unlock()
	if !wanted() {
		return nil
	}
	have, err := listSlots(ctx, conn)
	if err != nil {
		return err
	}
	stays := map[string]bool{}
	for _, id := range a.peers() {
		want := name(id)
		stays[want] = true
		if s, ok := have[want]; ok && s.usable() {
			continue
		}
		if err := makeSlot(ctx, conn, want, have, oldestOf(have, id)); err != nil {
			return err
		}
	}
	for _, s := range have {
		if stays[s.name] {
			continue
		}
		if err := dropSlot(ctx, conn, s); err != nil {
			return err
		}
	}
	return nil
}

// oldestOf returns the slot of id that keeps the most.
func oldestOf(have map[string]slot, id pgcluster.NodeID) string {
	best := slot{}
	for _, s := range have {
		if s.node() == id && !s.lost && s.restart != 0 && (best.name == "" || s.restart < best.restart) {
			best = s
		}
	}
	return best.name
}

// makeSlot makes a slot that keeps WAL at once: what source keeps, or, if that is
// empty, all since the latest checkpoint.
func makeSlot(ctx context.Context, conn *pgx.Conn, name string, have map[string]slot, source string) error {
	if s, ok := have[name]; ok {
		if err := dropSlot(ctx, conn, s); err != nil {
			return err
		}
	}
	sql, args := "SELECT pg_create_physical_replication_slot($1, true)", []any{name}
	if source != "" {
		sql, args = "SELECT pg_copy_physical_replication_slot($2, $1, false)", []any{name, source}
	}
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("make slot %s: %w", name, err)
	}
	return nil
}

// dropSlot ends whoever holds the slot and drops it. A standby that is faster to
// take it again is ended again.
func dropSlot(ctx context.Context, conn *pgx.Conn, s slot) error {
	err := until(ctx, 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		_, err := conn.Exec(ctx, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL", s.name)
		if err != nil {
			return false, err
		}
		_, err = conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", s.name)
		var refused *pgconn.PgError
		switch {
		case err == nil:
			return true, nil
		case errors.As(err, &refused) && refused.Code == "42704": // undefined_object
			return true, nil
		case errors.As(err, &refused) && refused.Code == "55006": // object_in_use
			return false, nil
		default:
			return false, err
		}
	})
	if err != nil {
		return fmt.Errorf("drop slot %s: %w", s.name, err)
	}
	return nil
}

// PostgreSQL 15 does not decode on a standby, so nobody can be using one there.
const leftoversSQL = `
SELECT slot_name::text
FROM pg_replication_slots
WHERE slot_type = 'logical' AND NOT active AND pg_is_in_recovery()
ORDER BY slot_name`

// dropLogical drops the logical slots that a standby has left from when it was a
// primary. They would keep WAL for nobody, and, should it be promoted again, go on with
// a gap that their readers cannot see.
func (a *Agent) dropLogical(ctx context.Context, conn *pgx.Conn) error {
	a.slotting.Lock()
	defer a.slotting.Unlock()
	if !a.retains() {
		return nil
	}
	leftovers, err := names(ctx, conn, leftoversSQL)
	if err != nil {
		return fmt.Errorf("look for logical slots of a former primary: %w", err)
	}
	for _, name := range leftovers {
		if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name); err != nil {
			return fmt.Errorf("drop logical slot %s of a former primary: %w", name, err)
		}
		a.log.WarnContext(ctx, "dropped a logical slot of a former primary; make it anew on the primary if it is still read", "slot", name)
	}
	return nil
}

const slotsSQL = `
SELECT slot_name, coalesce(active_pid, 0), coalesce(wal_status = 'lost', false), coalesce(restart_lsn::text, '0/0')
FROM pg_replication_slots
WHERE slot_type = 'physical'`

// listSlots returns the slots that are the agent's, by name.
func listSlots(ctx context.Context, conn *pgx.Conn) (map[string]slot, error) {
	rows, err := conn.Query(ctx, slotsSQL)
	if err != nil {
		return nil, fmt.Errorf("list slots: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (slot, error) {
		var s slot
		var restart string
		if err := row.Scan(&s.name, &s.pid, &s.lost, &restart); err != nil {
			return s, err
		}
		var err error
		s.restart, err = pgcluster.ParseLSN(restart)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("list slots: %w", err)
	}
	have := map[string]slot{}
	for _, s := range all {
		if s.node() != "" {
			have[s.name] = s
		}
	}
	return have, nil
}

// endStrangers ends walsenders that call themselves a member and do not hold its
// slot. PostgreSQL would count them among those that a commit waits for.
func (a *Agent) endStrangers(ctx context.Context, conn *pgx.Conn, epoch uint64) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	names := map[string]string{}
	for _, id := range a.peers() {
		names[string(id)] = pgcluster.SlotName(epoch, id)
	}
	ids := slices.Sorted(maps.Keys(names))
	slotNames := make([]string, len(ids))
	for i, id := range ids {
		slotNames[i] = names[id]
	}
	// A walsender takes its slot before it leaves the state startup. Case does not matter
	// to PostgreSQL when it looks for whom a commit waits for.
	tag, err := conn.Exec(ctx, `
SELECT pg_terminate_backend(r.pid)
FROM pg_stat_replication r
JOIN unnest($1::text[], $2::text[]) AS m (node, slot) ON m.node = lower(r.application_name)
WHERE r.state IN ('catchup', 'streaming')
  AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.slot_name = m.slot AND s.active_pid = r.pid)`, ids, slotNames)
	if err != nil {
		return fmt.Errorf("look for walsenders without a slot: %w", err)
	}
	if n := tag.RowsAffected(); n > 0 {
		a.log.WarnContext(ctx, "ended walsenders that streamed past the slots", "count", n)
	}
	return nil
}
