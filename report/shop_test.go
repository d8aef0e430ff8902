package report_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/stats"
)

const shop = "../../shared/stats/logs/shop"

// shopExpected is the part of expected.json that a report covers.
type shopExpected struct {
	Full struct {
		Experiments map[string]struct {
			Units int64 `json:"units_assigned"`
			SRM   struct {
				Chi2 float64
				P    float64 `json:"p_value"`
			}
			Treatments map[string]struct {
				Units      int64
				Purchasing int64   `json:"purchasing_units"`
				Rate       float64 `json:"conversion_rate"`
				Mean       float64 `json:"sales_per_unit_mean"`
				Variance   float64 `json:"sales_per_unit_var"`
			}
			Comparisons map[string]struct {
				Conversion struct {
					Diff, Z  float64
					P        float64    `json:"p_value"`
					Newcombe [2]float64 `json:"newcombe_ci"`
				}
				Sales struct {
					Diff, T, DF float64
					P           float64 `json:"p_value"`
					CI          [2]float64
				} `json:"sales_per_unit"`
			} `json:"comparisons_vs_control"`
		}
	}
}

func readCSV(t *testing.T, name string) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join(shop, name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range lines[0] {
			row[name] = line[i]
		}
		rows = append(rows, row)
	}
	return rows
}

func parseTime(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func cents(t *testing.T, text string) *int64 {
	t.Helper()
	if text == "" {
		return nil
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(text, ".", ""), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return &v
}

// shopAssignments returns one assignment per unit that is not conflicting, at its
// earliest time.
func shopAssignments(t *testing.T) []experiment.ImportedAssignment {
	t.Helper()
	byUnit := map[string]*experiment.ImportedAssignment{}
	conflicting := map[string]bool{}
	for _, row := range readCSV(t, "assignments.csv") {
		if row["experiment"] != "exp_banner" {
			continue
		}
		id, at := row["unit_id"], parseTime(t, row["assigned_at"])
		known, ok := byUnit[id]
		switch {
		case !ok:
			byUnit[id] = &experiment.ImportedAssignment{Unit: unit(id), Treatment: row["treatment"], At: at}
		case known.Treatment != row["treatment"]:
			conflicting[id] = true
		case at.Before(known.At):
			known.At = at
		}
	}
	var rows []experiment.ImportedAssignment
	for id, a := range byUnit {
		if !conflicting[id] {
			rows = append(rows, *a)
		}
	}
	return rows
}

// shopEvents returns all events, copies too, in the order of their arrival.
func shopEvents(t *testing.T) []experiment.Event {
	t.Helper()
	var events []experiment.Event
	for _, row := range readCSV(t, "events.csv") {
		e := experiment.Event{
			ID: experiment.EventID(uuid.NewSHA1(uuid.NameSpaceOID, []byte(row["event_id"]))), Unit: unit(row["unit_id"]),
			Type: row["type"], OccurredAt: parseTime(t, row["occurred_at"]),
			ItemsTotal: cents(t, row["items_total"]), Discounts: cents(t, row["discounts"]),
		}
		if e.Type == experiment.EventPurchase {
			e.Currency = "EUR"
		}
		events = append(events, e)
	}
	return events
}

// TestReport_shop holds the whole way from the log to the report to figures that
// two other implementations agree on.
func TestReport_shop(t *testing.T) {
	t.Parallel()
	rows := shopAssignments(t)
	text, err := os.ReadFile(filepath.Join(shop, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all shopExpected
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	want := all.Full.Experiments["exp_banner"]

	f := newFixture(t)
	f.define(t, nil, map[string]int{"control": 50, "banner_red": 25, "banner_blue": 25}, "control", "banner_red", "banner_blue")
	f.start(t)
	got, err := f.ImportAssignments(t.Context(), experiment.AssignmentImport{Experiment: "button", UnitType: "user", Exposed: true, Rows: rows})
	if err != nil || int64(got.Inserted) != int64(len(rows)) || len(got.Rejected) > 0 {
		t.Fatalf("import = %+v, %v", got, err)
	}
	if _, err := f.ImportEvents(t.Context(), shopEvents(t)); err != nil {
		t.Fatal(err)
	}

	r := f.report(t)
	near(t, "chi-square", r.SRM.Statistic, want.SRM.Chi2)
	near(t, "p of the split", r.SRM.P, want.SRM.P)
	conversion, sales := r.Metrics[0], r.Metrics[1]
	for i, c := range conversion.Results {
		s := sales.Results[i]
		w := want.Treatments[c.Treatment]
		if c.Units != w.Units || c.Converted != w.Purchasing {
			t.Errorf("%s: %d of %d units converted, want %d of %d", c.Treatment, c.Converted, c.Units, w.Purchasing, w.Units)
		}
		near(t, c.Treatment+" rate", c.Value, w.Rate)
		near(t, c.Treatment+" mean", s.Value, 100*w.Mean)
		near(t, c.Treatment+" variance", s.Variance, 1e4*w.Variance)
		if c.Comparison == nil {
			continue
		}
		v := want.Comparisons[c.Treatment]
		near(t, c.Treatment+" difference of rates", c.Comparison.Difference.Estimate, v.Conversion.Diff)
		near(t, c.Treatment+" z", c.Comparison.Statistic, v.Conversion.Z)
		near(t, c.Treatment+" p of z", c.Comparison.P, v.Conversion.P)
		nearInterval(t, c.Treatment+" rates", c.Comparison.Difference.Interval, v.Conversion.Newcombe, 1)
		near(t, c.Treatment+" difference of means", s.Comparison.Difference.Estimate, 100*v.Sales.Diff)
		near(t, c.Treatment+" t", s.Comparison.Statistic, v.Sales.T)
		near(t, c.Treatment+" df", s.Comparison.DF, v.Sales.DF)
		near(t, c.Treatment+" p of t", s.Comparison.P, v.Sales.P)
		nearInterval(t, c.Treatment+" means", s.Comparison.Difference.Interval, v.Sales.CI, 100)
	}
}

func near(t *testing.T, what string, got stats.Number, want float64) {
	t.Helper()
	if !got.Defined || math.Abs(got.Value-want) > 1e-9*math.Abs(want) {
		t.Errorf("%s = %v, want %v", what, got.Value, want)
	}
}

func nearInterval(t *testing.T, what string, got stats.Interval, want [2]float64, scale float64) {
	t.Helper()
	near(t, what+" from", stats.Number{Value: got.Low, Defined: got.Defined}, scale*want[0])
	near(t, what+" to", stats.Number{Value: got.High, Defined: got.Defined}, scale*want[1])
}
