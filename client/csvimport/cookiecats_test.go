package csvimport_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/client/csvimport"
	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/report"
	"github.com/xpd-platform/xpd/stats"
)

const cookieCats = "../../../shared/data/cookie_cats.csv.gz"

func cookieCatsMetrics() []experiment.Metric {
	return []experiment.Metric{
		{Key: "retention_1", Kind: experiment.MetricConversion, Event: "retention_1"},
		{Key: "retention_7", Kind: experiment.MetricConversion, Event: "retention_7"},
		{Key: "rounds", Kind: experiment.MetricMean, Event: "rounds"},
	}
}

// flaky loses the answer of every third batch, and its caller stops.
type flaky struct {
	service

	calls int
}

func (f *flaky) ImportEvents(ctx context.Context, batch client.EventImport) (client.ImportResult, error) {
	r, err := f.service.ImportEvents(ctx, batch)
	if f.calls++; f.calls%3 == 0 {
		return client.ImportResult{}, errLost
	}
	return r, err
}

// TestImport_cookieCats imports a real experiment and finds in the report what is
// published about it.
func TestImport_cookieCats(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(cookieCats); err != nil {
		t.Skip(err)
	}
	s := serve(t)
	s.experiment(t, "gate", cookieCatsMetrics(), "gate_30", "gate_40")
	dir := t.TempDir()
	o := csvimport.Options{File: filepath.Join(dir, "cats.csv.gz"), Rejects: filepath.Join(dir, "rejects.csv")}
	input, err := os.ReadFile(cookieCats)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.File, input, 0o600); err != nil {
		t.Fatal(err)
	}
	events := csvimport.Events{
		UnitType: "user", UnitColumn: "userid",
		Columns: []csvimport.EventColumn{
			{Type: "retention_1", Column: "retention_1"},
			{Type: "retention_7", Column: "retention_7"},
			{Type: "rounds", Column: "sum_gamerounds"},
		},
	}
	a := versions()
	got, err := csvimport.ImportAssignments(t.Context(), s, o, a)
	wantResult(t, got, err, csvimport.Result{Lines: 90_189, Inserted: 90_189})

	// Each try ends at a lost answer, the next one goes on from there.
	unreliable := &flaky{service: s}
	for tries := 1; ; tries++ {
		got, err = csvimport.ImportEvents(t.Context(), unreliable, o, events)
		if err == nil {
			t.Logf("events took %d tries", tries)
			break
		}
		if tries > 100 {
			t.Fatal(err)
		}
	}
	stored := s.count(t, "SELECT count(*) FROM event")
	if got.Lines != 90_189 || got.Rejected != 0 || got.Inserted+got.Present != stored {
		t.Errorf("events: %+v, want 90,189 lines and %d rows", got, stored)
	}
	first := cookieCatsReport(t, s)

	// A second time changes nothing, be it from another file.
	o.File = head(t, filepath.Join(dir, "head.csv"), 20_000)
	got, err = csvimport.ImportAssignments(t.Context(), s, o, a)
	wantResult(t, got, err, csvimport.Result{Lines: 20_000, Present: 20_000})
	got, err = csvimport.ImportEvents(t.Context(), s, o, events)
	if err != nil || got.Lines != 20_000 || got.Inserted != 0 || s.count(t, "SELECT count(*) FROM event") != stored {
		t.Errorf("second import = %+v, %v, want nothing new", got, err)
	}
	second := cookieCatsReport(t, s)
	second.GeneratedAt = first.GeneratedAt
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("report after importing twice (-once +twice):\n%s", diff)
	}
}

// head writes the header and the first n lines below it into a plain file.
func head(t *testing.T, path string, n int) string {
	t.Helper()
	f, err := os.Open(cookieCats)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	lines := bufio.NewScanner(zip)
	for range n + 1 {
		lines.Scan()
		text = append(append(text, lines.Bytes()...), '\n')
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// cookieCatsReport returns the report after it has compared it.
func cookieCatsReport(t *testing.T, s service) report.Report {
	t.Helper()
	r, err := s.Report(t.Context(), "gate")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]float64{
		"retention_1": {0.448188, 0.442283}, "retention_7": {0.190201, 0.182000}, "rounds": {52.4563, 51.2988},
	}
	if len(r.Metrics) != len(want) {
		t.Fatalf("%d metrics, want %d", len(r.Metrics), len(want))
	}
	for i, units := range []int64{44_700, 45_489} {
		if got := r.Treatments[i]; got.Exposed != units || got.Assigned != units {
			t.Errorf("%s has %d units, %d exposed, want %d", got.Treatment, got.Assigned, got.Exposed, units)
		}
		for _, m := range r.Metrics {
			got := m.Results[i]
			tolerance := 5e-7
			if m.Kind == experiment.MetricMean {
				tolerance = 5e-5
			}
			if math.Abs(got.Value.Value-want[m.Metric][i]) > tolerance || got.Units != units {
				t.Errorf("%s of %s = %v of %d units, want %v", m.Metric, got.Treatment, got.Value.Value, got.Units, want[m.Metric][i])
			}
		}
	}
	// Computed from the file by other means.
	near(t, "p of the split", r.SRM.P, 0.00860798781083624, 1e-12)
	if r.SRM.Mismatch {
		t.Error("the split counts as a mismatch")
	}
	for i, want := range []struct{ difference, statistic, p, tolerance float64 }{
		{20119./45489 - 20034./44700, -1.7840862247974725, 0.07440965529691916, 1e-12},
		{8279./45489 - 8502./44700, -3.164358912748191, 0.0015542499756143289, 1e-12},
		{-1.1574884539532457, -0.8854374331270647, 0.37592075060695496, 2e-5}, // p of the normal distribution
	} {
		m := r.Metrics[i]
		c := m.Results[1].Comparison
		near(t, "difference of "+m.Metric, c.Difference.Estimate, want.difference, 1e-9)
		near(t, "statistic of "+m.Metric, c.Statistic, want.statistic, 1e-9)
		near(t, "p of "+m.Metric, c.P, want.p, want.tolerance)
	}
	return r
}

func near(t *testing.T, what string, got stats.Number, want, tolerance float64) {
	t.Helper()
	if !got.Defined || math.Abs(got.Value-want) > tolerance {
		t.Errorf("%s = %v, want %v", what, got.Value, want)
	}
}
