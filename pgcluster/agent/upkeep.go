package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	upkeepInterval = 2 * time.Second
	rolesInterval  = 10 * time.Second
	sizeInterval   = time.Minute // looks at every file of every table
)

// lookAfter watches over what changes rarely, and undoes what nobody may change,
// until ctx ends. It has its own connection and holds up neither probes nor orders.
func (a *Agent) lookAfter(ctx context.Context) {
	var l lookout
	defer func() { l.close(ctx) }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(upkeepInterval):
		}
		a.reportOverrides(time.Now())
		err := a.look(ctx, &l)
		if err != nil && ctx.Err() == nil {
			a.log.DebugContext(ctx, "settings not looked at, will retry", "error", err)
		}
	}
}

// lookout is the connection of lookAfter, and what it remembers.
type lookout struct {
	conn  *pgx.Conn
	of    *server
	roles time.Time // when roles were looked at
	sized time.Time // when the databases were measured
}

func (l *lookout) close(ctx context.Context) {
	if l.conn != nil {
		closeConn(ctx, l.conn)
		l.conn = nil
	}
}

func (a *Agent) look(ctx context.Context, l *lookout) error {
	if a.foreign() {
		return a.lookAtForeign(ctx)
	}
	s := a.running()
	if l.conn != nil && (s != l.of || l.conn.IsClosed()) {
		l.close(ctx)
	}
	r := a.Report()
	if s == nil || !r.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	if l.conn == nil {
		conn, err := a.connect(ctx)
		if err != nil {
			return err
		}
		l.conn, l.of = conn, s
	}
	if err := a.lookOver(ctx, l.conn); err != nil {
		return err
	}
	if time.Since(l.sized) >= sizeInterval {
		l.sized = time.Now() // once for each interval, even if it takes too long
		if err := a.measure(ctx, l.conn); err != nil {
			return err
		}
	}
	if r.Role != pgcluster.RolePrimary {
		l.roles = time.Time{}
		a.publish(func(r *pgcluster.Report) { r.Weak = nil }) // that was another time
		return nil
	}
	if time.Since(l.roles) < rolesInterval {
		return nil
	}
	l.roles = time.Now()
	return a.checkRoles(ctx, l.conn)
}

// lookOver looks at the settings and slots of a server that answers.
func (a *Agent) lookOver(ctx context.Context, conn *pgx.Conn) error {
	if err := a.prove(); err != nil {
		return err
	}
	if err := a.undoOverrides(ctx, conn); err != nil {
		return err
	}
	waits, err := findWaiting(ctx, conn)
	if err != nil {
		return err
	}
	// On a standby they are leftovers, which nobody would miss.
	logical, err := names(ctx, conn, "SELECT slot_name::text FROM pg_replication_slots WHERE slot_type = 'logical' AND NOT pg_is_in_recovery() ORDER BY slot_name")
	if err != nil {
		return fmt.Errorf("look for logical slots: %w", err)
	}
	a.publish(func(r *pgcluster.Report) {
		r.LogicalSlots = logical
		waits.report(r)
	})
	return nil
}

const sizeSQL = "SELECT sum(pg_database_size(oid))::int8 FROM pg_database"

// measure reports how much there is to clone.
func (a *Agent) measure(ctx context.Context, conn *pgx.Conn) error {
	var size int64
	if err := conn.QueryRow(ctx, sizeSQL).Scan(&size); err != nil {
		return fmt.Errorf("measure the databases: %w", err)
	}
	a.publish(func(r *pgcluster.Report) { r.DataBytes = uint64(max(0, size)) })
	return nil
}

// names returns a column of text.
func names(ctx context.Context, conn *pgx.Conn, sql string) ([]string, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
