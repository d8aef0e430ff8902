package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	probeInterval     = 100 * time.Millisecond
	askedInterval     = 20 * time.Millisecond // at most that often when somebody waits for news
	startingInterval  = 10 * time.Millisecond
	heartbeatInterval = 500 * time.Millisecond
)

// observation is what a server says about itself.
type observation struct {
	role      pgcluster.Role
	position  pgcluster.Position
	known     bool
	replayed  pgcluster.LSN
	lineage   pgcluster.Lineage
	receiver  pgcluster.Receiver // without Upstream
	senders   []pgcluster.Sender
	syncNames string

	written, flushed pgcluster.LSN // by the walreceiver
}

// probe keeps the report fresh until ctx ends.
func (a *Agent) probe(ctx context.Context) {
	var conn *pgx.Conn
	var of *server
	defer func() {
		if conn != nil {
			closeConn(ctx, conn)
		}
	}()
	interval := probeInterval
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		case <-a.kick:
		}
		s := a.running()
		if conn != nil && (s != of || conn.IsClosed()) {
			closeConn(ctx, conn)
			conn = nil
		}
		interval = probeInterval
		// One that is to end answers nobody, and each try costs it a process.
		if s == nil || s.foreign || s.asked.Load() {
			continue
		}
		of = s
		a.mu.Lock()
		a.tried = time.Now()
		a.mu.Unlock()
		var err error
		if conn, err = a.probeOnce(ctx, conn); err != nil && ctx.Err() == nil {
			interval = a.probeFailed(s, err)
		}
	}
}

// probeOnce observes over conn, which it opens if there is none, and publishes.
func (a *Agent) probeOnce(ctx context.Context, conn *pgx.Conn) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	generation := a.currentGeneration()
	if conn == nil {
		var err error
		if conn, err = a.connect(ctx); err != nil {
			return nil, err
		}
	}
	o, err := a.observe(ctx, conn)
	if err != nil {
		return conn, err
	}
	a.publishObservation(o, generation)
	return conn, nil
}

// probeFailed notes that the server did not answer and returns when to ask again.
// The rest of the report stays as it was: a server that hangs is not down.
func (a *Agent) probeFailed(s *server, err error) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != s {
		return startingInterval
	}
	if a.report.Process == pgcluster.ProcessStarting {
		return startingInterval // not accepting connections yet is no news
	}
	a.publishLocked(func(r *pgcluster.Report) { r.LastError = err.Error() })
	return probeInterval
}

func (a *Agent) currentGeneration() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.generation
}

// publishObservation reports o unless something newer is known: the generation
// has moved on since the observation began.
func (a *Agent) publishObservation(o observation, generation uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.generation != generation || a.server == nil {
		return
	}
	a.probed = time.Now()
	a.streamed.received(o.receiver.Streaming, o.written, o.flushed)
	a.publishLocked(func(r *pgcluster.Report) {
		r.Process = pgcluster.ProcessRunning
		r.Role = o.role
		r.Position, r.PositionKnown = o.position, o.known
		r.Replayed = o.replayed
		r.Lineage = o.lineage
		r.Receiver.Streaming, r.Receiver.HeardAgo = o.receiver.Streaming, o.receiver.HeardAgo
		r.Senders = o.senders
		r.SyncNames = o.syncNames
		if a.state.get().Settings.Arming {
			r.SyncNames = "" // not in force for every backend
		}
		if a.order.Kind == pgcluster.OrderLead && r.SyncNames != a.order.Sync.Names() {
			r.Order.SyncSeq = 0 // until it is confirmed again
		}
		r.LastError = ""
	})
	// Commits may not wait for whom they should, or somebody has promoted a standby.
	urgent := a.order.Kind == pgcluster.OrderLead || o.role == pgcluster.RolePrimary
	if urgent && a.report.Order.Done && !satisfied(a.order, a.report) {
		a.wakeUp()
	}
}

const observeSQL = `
SELECT pg_is_in_recovery(),
       CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn()::text ELSE '0/0' END,
       CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) ELSE '0' END,
       coalesce(pg_last_wal_receive_lsn()::text, '0/0'),
       coalesce(pg_last_wal_replay_lsn()::text, '0/0'),
       current_setting('synchronous_standby_names'),
       (SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming') = 1,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)
                 FROM pg_stat_wal_receiver), 0)::float8,
       coalesce((SELECT written_lsn::text FROM pg_stat_wal_receiver), '0/0')`

// observe asks the server for all that a report needs.
func (a *Agent) observe(ctx context.Context, conn *pgx.Conn) (observation, error) {
	var (
		o                                   observation
		recovering                          bool
		flushed, timeline, received, replay string
		written                             string
		heard                               float64
	)
	// Senders first: whoever does not count any more has acknowledged nothing past
	// the position that is read after. The rule for shrinking rests on that.
	var err error
	if o.senders, err = a.senders(ctx, conn); err != nil {
		return o, err
	}
	err = conn.QueryRow(ctx, observeSQL).Scan(&recovering, &flushed, &timeline, &received, &replay,
		&o.syncNames, &o.receiver.Streaming, &heard, &written)
	if err != nil {
		return o, fmt.Errorf("probe PostgreSQL: %w", err)
	}
	o.known = true
	if recovering {
		o.role = pgcluster.RoleStandby
		o.syncNames = "" // in force only on a primary
		o.receiver.HeardAgo = max(0, time.Duration(heard*float64(time.Second)))
		if o.written, err = pgcluster.ParseLSN(written); err == nil {
			err = a.locateStandby(&o, received, replay)
		}
	} else {
		o.role = pgcluster.RolePrimary
		err = locatePrimary(&o, flushed, timeline)
	}
	if err != nil {
		return o, fmt.Errorf("probe PostgreSQL: %w", err)
	}
	o.lineage, err = a.lineageOf(o.position.Timeline)
	return o, err
}

func locatePrimary(o *observation, flushed, timeline string) error {
	var err error
	if o.position.LSN, err = pgcluster.ParseLSN(flushed); err != nil {
		return err
	}
	o.position.Timeline, err = parseTimeline(timeline, 16)
	return err
}

func (a *Agent) locateStandby(o *observation, received, replay string) error {
	r, err := pgcluster.ParseLSN(received)
	if err != nil {
		return err
	}
	if o.replayed, err = pgcluster.ParseLSN(replay); err != nil {
		return err
	}
	o.flushed = r
	// A receiver that has just started reports the start of a segment.
	o.position.LSN = max(r, o.replayed)
	// Without a timeline, as when the file is just being replaced, the position is
	// not known this time.
	if o.position.Timeline, err = timelineAt(a.p.wal(), o.position.LSN); err != nil {
		o.known = false
	}
	return nil
}

// lineageOf is readLineage with a memory: a history file never changes, but it
// may not be there yet.
func (a *Agent) lineageOf(t pgcluster.Timeline) (pgcluster.Lineage, error) {
	a.mu.Lock()
	last := a.report.Lineage
	a.mu.Unlock()
	if len(last) > 0 && last.Current() == t {
		return last, nil
	}
	return a.readLineage(t)
}

const sendersSQL = `
SELECT application_name,
       state = 'streaming' AS streaming,
       sync_priority,
       coalesce(flush_lsn::text, '0/0') AS flushed,
       coalesce(replay_lsn::text, '0/0') AS replayed,
       coalesce(extract(epoch FROM replay_lag), 0)::float8 AS lag,
       coalesce((SELECT slot_name::text FROM pg_replication_slots WHERE active_pid = pid), '') AS slot
FROM pg_stat_replication
ORDER BY application_name, streaming DESC, backend_start DESC`

type senderRow struct {
	Name      string  `db:"application_name"`
	Streaming bool    `db:"streaming"`
	Priority  int     `db:"sync_priority"`
	Flushed   string  `db:"flushed"`
	Replayed  string  `db:"replayed"`
	Lag       float64 `db:"lag"`
	Slot      string  `db:"slot"`
}

// senders lists the members that stream from here; clones under way are left out.
// Who does not hold its slot of the epoch is not said to have anything: it is about
// to be ended.
func (a *Agent) senders(ctx context.Context, conn *pgx.Conn) ([]pgcluster.Sender, error) {
	rows, err := conn.Query(ctx, sendersSQL)
	if err != nil {
		return nil, fmt.Errorf("list senders: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[senderRow])
	if err != nil {
		return nil, fmt.Errorf("list senders: %w", err)
	}
	led := a.state.get().Led
	var all []pgcluster.Sender
	for _, row := range found {
		s := pgcluster.Sender{
			Node:         pgcluster.NodeID(row.Name),
			Streaming:    row.Streaming,
			SyncPriority: row.Priority,
			ReplayLag:    time.Duration(row.Lag * float64(time.Second)),
		}
		if _, ok := a.member(s.Node); !ok {
			continue
		}
		if s.Flushed, err = pgcluster.ParseLSN(row.Flushed); err != nil {
			return nil, fmt.Errorf("list senders: %w", err)
		}
		if s.Replayed, err = pgcluster.ParseLSN(row.Replayed); err != nil {
			return nil, fmt.Errorf("list senders: %w", err)
		}
		if row.Slot != pgcluster.SlotName(led, s.Node) {
			s.Streaming, s.Flushed = false, 0
		}
		all = append(all, s)
	}
	return all, nil
}

// heartbeat writes a little WAL on a primary, so that its standbys hear from it
// even when it is idle. The message is outside any transaction: it takes no
// transaction id and waits neither for the disk nor for a standby; the WAL writer
// flushes it a moment later. It has its own connection, so that should it hang all
// the same, probes go on.
func (a *Agent) heartbeat(ctx context.Context) {
	var conn *pgx.Conn
	var of *server
	defer func() {
		if conn != nil {
			closeConn(ctx, conn)
		}
	}()
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := a.running()
		if conn != nil && (s != of || conn.IsClosed()) {
			closeConn(ctx, conn)
			conn = nil
		}
		if r := a.Report(); s == nil || !r.Running() || r.Role != pgcluster.RolePrimary {
			a.beats.idle()
			continue
		}
		of = s
		conn = a.beat(ctx, conn)
	}
}

// beat returns the connection to use next time. It is not bounded: a session that
// hangs would be left behind, and the next one too. Failure is left to the probe to
// report.
func (a *Agent) beat(ctx context.Context, conn *pgx.Conn) *pgx.Conn {
	if conn == nil {
		var err error
		if conn, err = a.connect(ctx); err != nil {
			a.beats.idle()
			return nil
		}
	}
	a.beats.try()
	var flushed, end string
	err := conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text, pg_logical_emit_message(false, 'xpd.heartbeat', '')::text").
		Scan(&flushed, &end)
	if err != nil {
		a.beats.idle()
		closeConn(ctx, conn)
		return nil
	}
	// What PostgreSQL writes as text is an LSN.
	onDisk, _ := pgcluster.ParseLSN(flushed)
	written, _ := pgcluster.ParseLSN(end)
	a.beats.beaten(written, onDisk)
	return conn
}
