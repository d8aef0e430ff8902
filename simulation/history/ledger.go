package history

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

const (
	// pace is how often each node is written to.
	pace = 30 * time.Millisecond
	// commitPatience is how long one commit may wait; then its outcome is unknown.
	commitPatience = 3 * time.Second
	// role is the one that xpd itself writes as: what keeps clients out keeps it out.
	role = "xpd"
)

// Ack is a commit that a PostgreSQL acknowledged.
type Ack struct {
	ID       int64
	Node     pgcluster.NodeID
	Timeline pgcluster.Timeline
	LSN      pgcluster.LSN // between the row and its commit
	Began    time.Time
	Ended    time.Time
}

// Ledger writes rows to the PostgreSQL of every node, whatever the cluster says
// who is primary, and remembers those whose commit was acknowledged.
type Ledger struct {
	cluster *localcluster.Cluster
	run     int64 // tells the rows of several ledgers on one cluster apart
	last    atomic.Int64

	mu   sync.Mutex
	acks []Ack
}

// OpenLedger makes the table on the primary. Ledgers of one cluster must differ in
// run.
func OpenLedger(ctx context.Context, c *localcluster.Cluster, run int64) (*Ledger, error) {
	primary, err := c.Primary(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.Admin(ctx, primary)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `
CREATE TABLE IF NOT EXISTS ledger (run bigint, id bigint, PRIMARY KEY (run, id));
GRANT SELECT, INSERT ON ledger TO `+role)
	if err != nil {
		return nil, fmt.Errorf("make the ledger: %w", err)
	}
	return &Ledger{cluster: c, run: run}, nil
}

// Run writes until ctx ends, also to nodes that join meanwhile: one of them may be the
// last primary.
func (l *Ledger) Run(ctx context.Context) {
	var writers sync.WaitGroup
	defer writers.Wait()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	written := map[pgcluster.NodeID]int{} // the port of each node
	for {
		for _, m := range l.cluster.Members() {
			if m.Data() && written[m.ID] != m.PGPort {
				written[m.ID] = m.PGPort
				writers.Go(func() { l.write(ctx, m) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *Ledger) write(ctx context.Context, m pgcluster.Member) {
	w := writer{l: l, member: m}
	defer w.hangUp(ctx)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.commit(ctx)
		}
	}
}

// writer is the client of one node.
type writer struct {
	l        *Ledger
	member   pgcluster.Member
	conn     *pgx.Conn
	doubtful atomic.Bool // the server warned: the commit may be here only
}

func (w *writer) hangUp(ctx context.Context) {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // it is given up either way
	w.conn = nil
}

func (w *writer) connect(ctx context.Context) error {
	socket := filepath.Join(w.l.cluster.Dir(), string(w.member.ID), "pg", "run")
	c, err := pgx.ParseConfig(fmt.Sprintf("host='%s' port=%d user=%s dbname=xpd sslmode=disable", socket, w.member.PGPort, role))
	if err != nil {
		return err
	}
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.Severity == "WARNING" {
			w.doubtful.Store(true)
		}
	}
	w.conn, err = pgx.ConnectConfig(ctx, c)
	return err
}

// commit tries once. Whatever is not a plain acknowledgement does not count.
func (w *writer) commit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitPatience)
	defer cancel()
	if w.conn == nil || w.conn.IsClosed() {
		if err := w.connect(ctx); err != nil {
			w.conn = nil
			return
		}
	}
	w.doubtful.Store(false)
	a := Ack{ID: w.l.last.Add(1), Node: w.member.ID, Began: time.Now()}
	var file, lsn string
	err := w.conn.QueryRow(ctx, `
INSERT INTO ledger (run, id) VALUES ($1, $2)
RETURNING pg_walfile_name(pg_current_wal_insert_lsn()), pg_current_wal_insert_lsn()::text`, w.l.run, a.ID).Scan(&file, &lsn)
	a.Ended = time.Now()
	if err != nil || w.doubtful.Load() {
		return
	}
	timeline, err := strconv.ParseUint(file[:8], 16, 32)
	if err == nil {
		a.LSN, err = pgcluster.ParseLSN(lsn)
	}
	if err != nil {
		return // never: PostgreSQL writes them so
	}
	a.Timeline = pgcluster.Timeline(timeline)
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	w.l.acks = append(w.l.acks, a)
}

// Acks returns what was acknowledged so far.
func (l *Ledger) Acks() []Ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Ack(nil), l.acks...)
}

// Check returns an error unless every acknowledged row is on the primary and the
// acknowledgements are in order. Run must have ended.
func (l *Ledger) Check(ctx context.Context) error {
	acks := l.Acks()
	if len(acks) == 0 {
		return errors.New("the ledger got nothing acknowledged")
	}
	stored, err := l.stored(ctx)
	if err != nil {
		return err
	}
	errs := []error{InOrder(acks)}
	missing := 0
	for _, a := range acks {
		if !stored[a.ID] {
			missing++
			if missing == 1 {
				errs = append(errs, fmt.Errorf("row %d, acknowledged by %s at %d:%v, is lost", a.ID, a.Node, a.Timeline, a.LSN))
			}
		}
	}
	if missing > 1 {
		errs = append(errs, fmt.Errorf("%d of %d rows are lost", missing, len(acks)))
	}
	return errors.Join(errs...)
}

func (l *Ledger) stored(ctx context.Context) (map[int64]bool, error) {
	primary, err := l.cluster.Primary(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := l.cluster.Admin(ctx, primary)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT id FROM ledger WHERE run = $1`, l.run)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	stored := make(map[int64]bool, len(ids))
	for _, id := range ids {
		stored[id] = true
	}
	return stored, nil
}
