package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

const replayInterval = 10 * time.Millisecond

// NodeAudit is how the tables of one node compare with what was acknowledged.
type NodeAudit struct {
	Node               pgcluster.NodeID `json:"node"`
	Role               string           `json:"role"`
	MissingAssignments int              `json:"missing_assignments"`
	MissingExposures   int              `json:"missing_exposures"`
	MissingEvents      int              `json:"missing_events"`
	Changed            int              `json:"changed"`     // present, with another value
	TornUnits          int              `json:"torn_units"`  // with two treatments of a run
	LayerUnits         int              `json:"layer_units"` // in two experiments of a layer that exclude each other
}

// clean reports whether nothing is wrong.
func (a NodeAudit) clean() bool {
	return a.MissingAssignments+a.MissingExposures+a.MissingEvents+a.Changed+a.TornUnits+a.LayerUnits == 0
}

// audit compares the journal with the primary and with every synchronous standby,
// each once it has replayed all that the primary has flushed.
func audit(ctx context.Context, c *localcluster.Cluster, j *journal) ([]NodeAudit, error) {
	status, err := c.WaitStatus(ctx, "writes are open", func(s failover.Status) bool { return s.Level != failover.LevelNoWrites })
	if err != nil {
		return nil, err
	}
	var flushed string
	var audits []NodeAudit
	check := func(id pgcluster.NodeID, role string) error {
		conn, err := c.Admin(ctx, id)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if role == rolePrimary {
			err = conn.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn()::text`).Scan(&flushed)
		} else {
			err = waitReplay(ctx, conn, flushed)
		}
		if err != nil {
			return fmt.Errorf("audit %s: %w", id, err)
		}
		a, err := j.audit(ctx, conn)
		if err != nil {
			return fmt.Errorf("audit %s: %w", id, err)
		}
		a.Node, a.Role = id, role
		audits = append(audits, a)
		return nil
	}
	if err := check(status.Primary, rolePrimary); err != nil {
		return nil, err
	}
	for _, n := range status.Nodes {
		if n.Sync != "sync" {
			continue
		}
		if err := check(n.ID, "sync standby"); err != nil {
			return nil, err
		}
	}
	return audits, nil
}

const rolePrimary = "primary"

// waitReplay returns once a standby has replayed up to lsn.
func waitReplay(ctx context.Context, conn *pgx.Conn, lsn string) error {
	tick := time.NewTicker(replayInterval)
	defer tick.Stop()
	for {
		var reached bool
		if err := conn.QueryRow(ctx, `SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, lsn).Scan(&reached); err != nil {
			return err
		}
		if reached {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for replay up to %s: %w", lsn, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// audit compares the journal with the tables that conn sees.
func (j *journal) audit(ctx context.Context, conn *pgx.Conn) (NodeAudit, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var a NodeAudit
	for _, part := range []func(context.Context, *pgx.Conn, *NodeAudit) error{
		j.auditAssignments, j.auditExposures, j.auditEvents, j.auditUnits,
	} {
		if err := part(ctx, conn, &a); err != nil {
			return NodeAudit{}, err
		}
	}
	return a, nil
}

// place is a membership as the tables have it, with the raw id of the unit.
type place struct{ id, experiment string }

// query returns the rows of a result, whose columns are the fields of T in order.
func query[T any](ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]T, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

const assignmentsSQL = `
SELECT unit.id, experiment.key, treatment.key, run.no
FROM assignment
JOIN unit ON unit.key = assignment.unit_key
JOIN run ON run.id = assignment.run_id
JOIN experiment ON experiment.id = run.experiment_id
JOIN treatment ON treatment.experiment_id = experiment.id AND treatment.no = assignment.treatment
WHERE unit.type = $1 AND starts_with(unit.id, $2)`

func (j *journal) auditAssignments(ctx context.Context, conn *pgx.Conn, a *NodeAudit) error {
	type row struct {
		ID, Experiment, Treatment string
		Run                       int
	}
	rows, err := query[row](ctx, conn, assignmentsSQL, unitType, j.prefix)
	if err != nil {
		return fmt.Errorf("read assignments: %w", err)
	}
	stored := make(map[place]draw, len(rows))
	for _, r := range rows {
		stored[place{r.ID, r.Experiment}] = draw{r.Treatment, r.Run}
	}
	for m, want := range j.assigned {
		got, ok := stored[place{j.unitID(m.unit), m.experiment}]
		if ok {
			j.read(j.treatmentOf(m), got.String())
		} else {
			j.read(j.treatmentOf(m), "")
		}
		switch {
		case !ok:
			a.MissingAssignments++
			j.complain("%s: %s in %s is missing", j.unitID(m.unit), want.treatment, m.experiment)
		case got != want:
			a.Changed++
			j.complain("%s: acknowledged %+v in %s, stored %+v", j.unitID(m.unit), want, m.experiment, got)
		}
	}
	return nil
}

const exposuresSQL = `
SELECT unit.id, experiment.key, exposure.exposed_at
FROM exposure
JOIN unit ON unit.key = exposure.unit_key
JOIN run ON run.id = exposure.run_id
JOIN experiment ON experiment.id = run.experiment_id
WHERE unit.type = $1 AND starts_with(unit.id, $2)`

func (j *journal) auditExposures(ctx context.Context, conn *pgx.Conn, a *NodeAudit) error {
	type row struct {
		ID, Experiment string
		At             time.Time
	}
	rows, err := query[row](ctx, conn, exposuresSQL, unitType, j.prefix)
	if err != nil {
		return fmt.Errorf("read exposures: %w", err)
	}
	stored := make(map[place]time.Time, len(rows))
	for _, r := range rows {
		stored[place{r.ID, r.Experiment}] = r.At
	}
	for m, want := range j.exposed {
		got, ok := stored[place{j.unitID(m.unit), m.experiment}]
		if ok {
			j.read(j.exposureOf(m), microseconds(got))
		} else {
			j.read(j.exposureOf(m), "")
		}
		switch {
		case !ok:
			a.MissingExposures++
			j.complain("%s: exposure to %s is missing", j.unitID(m.unit), m.experiment)
		case !got.Equal(want):
			a.Changed++
			j.complain("%s: acknowledged exposure to %s at %s, stored %s", j.unitID(m.unit), m.experiment, want, got)
		}
	}
	return nil
}

const eventsSQL = `
SELECT event.id
FROM event
JOIN unit ON unit.key = event.unit_key
WHERE unit.type = $1 AND starts_with(unit.id, $2)`

func (j *journal) auditEvents(ctx context.Context, conn *pgx.Conn, a *NodeAudit) error {
	type row struct{ ID [16]byte }
	rows, err := query[row](ctx, conn, eventsSQL, unitType, j.prefix)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	stored := make(map[experiment.EventID]struct{}, len(rows))
	for _, r := range rows {
		stored[r.ID] = struct{}{}
	}
	for id := range j.events {
		if _, ok := stored[id]; !ok {
			a.MissingEvents++
			j.complain("event %s is missing", id)
		}
	}
	return nil
}

// The tables' own keys rule these out, if the keys themselves are sound.
const unitsSQL = `
WITH placed AS (
	SELECT unit.type, unit.id, run.id AS run_id, experiment.layer_id, experiment.id AS experiment_id, assignment.treatment
	FROM assignment
	JOIN unit ON unit.key = assignment.unit_key
	JOIN run ON run.id = assignment.run_id
	JOIN experiment ON experiment.id = run.experiment_id
	WHERE experiment.state IN ('running', 'paused')
)
SELECT
	(SELECT count(*) FROM (
		SELECT FROM placed GROUP BY type, id, run_id HAVING count(*) > 1) AS torn),
	(SELECT count(*) FROM (
		SELECT FROM placed GROUP BY type, id, layer_id HAVING count(DISTINCT experiment_id) > 1) AS layered)`

func (j *journal) auditUnits(ctx context.Context, conn *pgx.Conn, a *NodeAudit) error {
	if err := conn.QueryRow(ctx, unitsSQL).Scan(&a.TornUnits, &a.LayerUnits); err != nil {
		return fmt.Errorf("count units with two treatments: %w", err)
	}
	return nil
}
