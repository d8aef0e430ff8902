package simulation

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

func assigned(experimentKey, treatment string, run int) []client.Treatment {
	return []client.Treatment{{Experiment: experimentKey, Treatment: treatment, Run: run, Reason: experiment.ReasonAssigned}}
}

func TestJournal_noticesContradictions(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	exposed := func(at *time.Time, result experiment.ExposureOutcome) []client.Exposure {
		return []client.Exposure{{Experiment: "e", Result: result, ExposedAt: at}}
	}
	later := now.Add(time.Microsecond)
	same := now.Add(time.Nanosecond)
	tests := []struct {
		name          string
		answer        func(*journal)
		changed, torn int
	}{
		{"the same again", func(j *journal) { j.treatments(1, assigned("e", "a", 1), false, now) }, 0, 0},
		{"another unit", func(j *journal) { j.treatments(2, assigned("e", "b", 1), true, now) }, 0, 0},
		{"another experiment", func(j *journal) { j.treatments(1, assigned("f", "b", 1), false, now) }, 0, 0},
		{"another treatment", func(j *journal) { j.treatments(1, assigned("e", "b", 1), false, now) }, 1, 1},
		{"another run", func(j *journal) { j.treatments(1, assigned("e", "a", 2), false, now) }, 1, 1},
		{"no treatment any more", func(j *journal) {
			j.treatments(1, []client.Treatment{{Experiment: "e", Reason: experiment.ReasonTraffic}}, false, now)
		}, 1, 0},
		{"exposed as first told", func(j *journal) { j.exposures(1, []string{"e"}, exposed(&same, experiment.ExposureAlready)) }, 0, 0},
		{"exposed at another time", func(j *journal) { j.exposures(1, []string{"e"}, exposed(&later, experiment.ExposureAlready)) }, 1, 0},
		{"not assigned, though known", func(j *journal) { j.exposures(1, []string{"e"}, exposed(nil, experiment.ExposureNotAssigned)) }, 1, 0},
		{"not assigned, and not known when asked", func(j *journal) { j.exposures(2, nil, exposed(nil, experiment.ExposureNotAssigned)) }, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal("u")
			j.treatments(1, assigned("e", "a", 1), true, now)
			j.exposures(1, j.knows(1, []string{"e", "f"}), exposed(&now, experiment.ExposureConfirmed))
			tt.answer(j)
			if j.changed != tt.changed || len(j.torn) != tt.torn {
				t.Errorf("%d changed answers and %d torn units, want %d and %d: %q", j.changed, len(j.torn), tt.changed, tt.torn, j.complaints)
			}
		})
	}
}

func TestJournal_longestPause(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	j := newJournal("u")
	for unit, ms := range []int{5000, 10, 100, 700, 20, 710} { // answers come in any order
		j.treatments(unit, assigned("e", "a", 1), true, at(ms))
	}
	j.treatments(0, assigned("e", "a", 1), false, at(400)) // returning units write nothing
	tests := []struct {
		name     string
		from, to int
		want     int
	}{
		{"between two acknowledgements", 0, 1000, 600},
		{"from the beginning of the window", 300, 800, 400},
		{"until its end", 650, 1000, 290},
		{"nothing in the window", 1000, 3000, 2000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, want := j.longestPause(at(tt.from), at(tt.to)), time.Duration(tt.want)*time.Millisecond; got != want {
				t.Errorf("longestPause() = %s, want %s", got, want)
			}
		})
	}
	if !j.enrolledSince(at(4999)) || j.enrolledSince(at(5000)) {
		t.Error("enrolledSince() does not tell the last acknowledgement from later ones")
	}
}

// storedSQL is what the journal of TestJournal_audit expects to find, and rows of
// somebody else.
const storedSQL = `
INSERT INTO layer (key, unit_type, salt, created_at) VALUES ('l', 'user', '', now());
INSERT INTO experiment (key, layer_id, state, version, created_at, updated_at)
	VALUES ('e', 1, 'running', 1, now(), now()), ('f', 1, 'running', 1, now(), now());
INSERT INTO run (experiment_id, no, salt, started_at) VALUES (1, 1, '', now()), (2, 1, '', now());
INSERT INTO treatment (experiment_id, no, key, control) VALUES (1, 0, 'a', true), (1, 1, 'b', false), (2, 0, 'a', true);
INSERT INTO unit (key, type, id) VALUES
	('00000000-0000-0000-0000-000000000001', 'user', 'u1'), ('00000000-0000-0000-0000-000000000002', 'user', 'other2');
INSERT INTO assignment (unit_key, run_id, treatment, version, assigned_at) VALUES
	('00000000-0000-0000-0000-000000000001', 1, 0, 1, now()), ('00000000-0000-0000-0000-000000000002', 1, 1, 1, now());
INSERT INTO exposure (unit_key, run_id, exposed_at) VALUES ('00000000-0000-0000-0000-000000000001', 1, '2026-01-01 00:00:00Z');
INSERT INTO event (id, unit_key, type, occurred_at, received_at) VALUES
	('11111111-1111-4111-8111-111111111111', '00000000-0000-0000-0000-000000000001', 'purchase', now(), now());
`

// Whatever is tampered with in the tables, the audit must notice.
func TestJournal_audit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		tamper string
		want   NodeAudit
	}{
		{"untouched", "", NodeAudit{}},
		{"assignment gone", "DELETE FROM assignment", NodeAudit{MissingAssignments: 1}},
		{"raw id gone", "DELETE FROM unit", NodeAudit{MissingAssignments: 1, MissingExposures: 1, MissingEvents: 1}},
		{"another treatment", "UPDATE assignment SET treatment = 1", NodeAudit{Changed: 1}},
		{"another run", "UPDATE run SET no = 7 WHERE experiment_id = 1", NodeAudit{Changed: 1}},
		{"exposure gone", "DELETE FROM exposure", NodeAudit{MissingExposures: 1}},
		{"exposed a microsecond later", "UPDATE exposure SET exposed_at = exposed_at + '1us'", NodeAudit{Changed: 1}},
		{"event gone", "DELETE FROM event", NodeAudit{MissingEvents: 1}},
		{"two experiments of a layer", "INSERT INTO assignment SELECT unit_key, now(), 1, 2, 0 FROM assignment WHERE treatment = 0", NodeAudit{LayerUnits: 1}},
		{
			"two treatments of a run", `
			INSERT INTO unit VALUES ('00000000-0000-0000-0000-000000000003', 'user', 'other2');
			INSERT INTO assignment (unit_key, run_id, treatment, version, assigned_at) VALUES ('00000000-0000-0000-0000-000000000003', 1, 0, 1, now())`,
			NodeAudit{TornUnits: 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			conn, err := pgtest.New(t).Acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			if err := pgstore.Migrate(ctx, conn.Conn().Config()); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(ctx, storedSQL+tt.tamper); err != nil {
				t.Fatal(err)
			}
			got, err := acknowledgedJournal(t).audit(ctx, conn.Conn())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("audit() (-want +got):\n%s", diff)
			}
			if got.clean() != (tt.want == NodeAudit{}) {
				t.Errorf("clean() = %t for %+v", got.clean(), got)
			}
			if err := (Report{Audits: []NodeAudit{got, {}}}).Err(); (err == nil) != got.clean() {
				t.Errorf("Err() = %v for %+v", err, got)
			}
		})
	}
}

// acknowledgedJournal has seen the rows of unit u1 in storedSQL acknowledged.
func acknowledgedJournal(t *testing.T) *journal {
	t.Helper()
	j := newJournal("u")
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	j.treatments(1, assigned("e", "a", 1), true, at)
	j.exposures(1, []string{"e"}, []client.Exposure{{Experiment: "e", Result: experiment.ExposureConfirmed, ExposedAt: &at}})
	id, err := experiment.ParseEventID("11111111-1111-4111-8111-111111111111")
	if err != nil {
		t.Fatal(err)
	}
	j.event(id)
	return j
}
