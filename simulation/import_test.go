package simulation_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/client/csvimport"
	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/report"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

const (
	cookieCats      = "../../shared/data/cookie_cats.csv.gz"
	cookieCatsKey   = "cookie-cats"
	cookieCatsLines = 90_189
	importPatience  = 3 * time.Minute
)

// TestImport_whileThePrimaryIsKilled imports a real experiment, kills the primary
// among the assignments and its successor among the events, and finds in the
// report what is published about it.
func TestImport_whileThePrimaryIsKilled(t *testing.T) { //nolint:paralleltest // shares the cluster
	if _, err := os.Stat(cookieCats); err != nil {
		t.Skip(err)
	}
	cluster := shared.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), importPatience)
	defer cancel()
	ctx, release := cluster.Guard(ctx)
	defer release()
	c, err := cluster.Client()
	if err != nil {
		t.Fatal(err)
	}
	startCookieCats(ctx, t, c)
	dir := t.TempDir()
	o := csvimport.Options{File: filepath.Join(dir, "cats.csv.gz"), Rejects: filepath.Join(dir, "rejects.csv")}
	text, err := os.ReadFile(cookieCats)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.File, text, 0o600); err != nil {
		t.Fatal(err)
	}

	var first, second pgcluster.NodeID
	o.Progress = killAfter(ctx, t, cluster, 20_000, &first)
	got, err := csvimport.ImportAssignments(ctx, c, o, csvimport.Assignments{
		Experiment: cookieCatsKey, UnitType: "player", UnitColumn: "userid", TreatmentColumn: "version",
	})
	checkImport(t, "assignments", got, err, cookieCatsLines)

	o.Progress = killAfter(ctx, t, cluster, 40_000, &second)
	events := csvimport.Events{UnitType: "player", UnitColumn: "userid", Columns: []csvimport.EventColumn{
		{Type: "retention_1", Column: "retention_1"}, {Type: "retention_7", Column: "retention_7"}, {Type: "rounds", Column: "sum_gamerounds"},
	}}
	const rows = 20_034 + 20_119 + 8_502 + 8_279 + cookieCatsLines
	got, err = csvimport.ImportEvents(ctx, c, o, events)
	checkImport(t, "events", got, err, rows)
	if last, err := cluster.Primary(ctx); err != nil || first == "" || first == second || second == last {
		t.Errorf("killed %q and %q, and %q is primary (%v): want a new primary each time", first, second, last, err)
	}

	r, err := c.Report(ctx, cookieCatsKey)
	if err != nil {
		t.Fatal(err)
	}
	checkCookieCats(t, r)
	if err := cluster.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	checkCookieCatsRows(ctx, t, cluster, rows)
}

func startCookieCats(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	if _, err := c.CreateLayer(ctx, cookieCatsKey, "player"); err != nil {
		t.Fatal(err)
	}
	_, err := c.CreateExperiment(ctx, client.Definition{
		Key: cookieCatsKey, Layer: cookieCatsKey,
		Treatments: []client.Arm{{Key: "gate_30", Control: true, Weight: 1}, {Key: "gate_40", Weight: 1}},
		Metrics: []client.Metric{
			{Key: "retention_1", Kind: experiment.MetricConversion, Event: "retention_1"},
			{Key: "retention_7", Kind: experiment.MetricConversion, Event: "retention_7"},
			{Key: "rounds", Kind: experiment.MetricMean, Event: "rounds"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.MoveExperiment(ctx, cookieCatsKey, client.Start, 0); err != nil {
		t.Fatal(err)
	}
}

// killAfter kills the primary's PostgreSQL, once, when that many lines are done,
// and says whose it was.
func killAfter(
	ctx context.Context, t *testing.T, cluster *localcluster.Cluster, lines int64, victim *pgcluster.NodeID,
) func(csvimport.Progress) {
	t.Helper()
	return func(p csvimport.Progress) {
		if *victim != "" || p.Lines < lines {
			return
		}
		primary, err := cluster.Primary(ctx)
		if err == nil {
			err = cluster.KillPostgres(primary)
		}
		if err != nil {
			t.Error(err)
		}
		*victim = primary
	}
}

// checkImport expects every row stored, by whichever try.
func checkImport(t *testing.T, what string, got csvimport.Result, err error, rows int64) {
	t.Helper()
	if err != nil {
		t.Fatalf("import %s: %v", what, err)
	}
	if got.Lines != cookieCatsLines || got.Rejected != 0 || got.Inserted+got.Present != rows {
		t.Errorf("import %s = %+v, want %d lines and %d rows", what, got, cookieCatsLines, rows)
	}
}

// checkCookieCats compares with the published figures.
func checkCookieCats(t *testing.T, r report.Report) {
	t.Helper()
	type figures struct {
		Units                         int64
		Retention1, Retention7, Round string
	}
	want := []figures{
		{44_700, "0.448188", "0.190201", "52.4563"},
		{45_489, "0.442283", "0.182000", "51.2988"},
	}
	if len(r.Treatments) != 2 || len(r.Metrics) != 3 {
		t.Fatalf("report = %+v", r)
	}
	got := make([]figures, 2)
	for i := range got {
		value := func(m int, format string) string { return fmt.Sprintf(format, r.Metrics[m].Results[i].Value.Value) }
		got[i] = figures{r.Treatments[i].Exposed, value(0, "%.6f"), value(1, "%.6f"), value(2, "%.4f")}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-published +got):\n%s", diff)
	}
	if p := r.Metrics[1].Results[1].Comparison.P.Value; math.Abs(p-0.001554249976) > 1e-9 {
		t.Errorf("p of retention_7 = %v", p)
	}
}

// checkCookieCatsRows counts what the last primary stores: each row once.
func checkCookieCatsRows(ctx context.Context, t *testing.T, cluster *localcluster.Cluster, events int64) {
	t.Helper()
	primary, err := cluster.Primary(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := cluster.Admin(ctx, primary)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, tt := range []struct {
		what, sql string
		want      int64
	}{
		{"units", `SELECT count(DISTINCT id) FROM unit WHERE type = 'player'`, cookieCatsLines},
		{"assignments", `SELECT count(*) FROM assignment WHERE run_id = (SELECT run_id FROM experiment WHERE key = '` + cookieCatsKey + `')`, cookieCatsLines},
		{"exposures", `SELECT count(*) FROM exposure WHERE run_id = (SELECT run_id FROM experiment WHERE key = '` + cookieCatsKey + `')`, cookieCatsLines},
		{"events", `SELECT count(*) FROM event e JOIN unit u ON u.key = e.unit_key WHERE u.type = 'player'`, events},
	} {
		var got int64
		if err := conn.QueryRow(ctx, tt.sql).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != tt.want {
			t.Errorf("%d %s on the primary, want %d", got, tt.what, tt.want)
		}
	}
}
