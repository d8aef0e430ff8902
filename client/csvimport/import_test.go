package csvimport_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/client/csvimport"
)

// memory stores what it is sent, as the service does. From call failAt on it
// carries a batch out and loses its answer.
type memory struct {
	treatments map[string]string
	events     map[string]client.ImportedEvent
	failAt     int
	calls      int
	largest    int // rows in one batch
}

var errLost = errors.New("connection reset")

func newMemory() *memory {
	return &memory{treatments: map[string]string{}, events: map[string]client.ImportedEvent{}}
}

func (m *memory) called(rows int) error {
	m.calls++
	m.largest = max(m.largest, rows)
	if m.failAt > 0 && m.calls >= m.failAt {
		return errLost
	}
	return nil
}

func (m *memory) ImportAssignments(_ context.Context, batch client.AssignmentImport) (r client.ImportResult, _ error) {
	for i, row := range batch.Rows {
		switch has := m.treatments[row.Unit]; {
		case row.Treatment == "unheard":
			r.Rejected = append(r.Rejected, client.RejectedImport{Row: i, Reason: "unknown treatment unheard"})
		case has == "":
			m.treatments[row.Unit] = row.Treatment
			r.Inserted++
		case has == row.Treatment:
			r.Present++
		default:
			r.Rejected = append(r.Rejected, client.RejectedImport{Row: i, Reason: "conflict: has " + has})
		}
	}
	return r, m.called(len(batch.Rows))
}

func (m *memory) ImportEvents(_ context.Context, batch client.EventImport) (r client.ImportResult, _ error) {
	for _, row := range batch.Rows {
		if _, ok := m.events[row.ID]; ok {
			r.Present++
			continue
		}
		m.events[row.ID] = row
		r.Inserted++
	}
	return r, m.called(len(batch.Rows))
}

// file writes an input into a folder of its own.
func file(t *testing.T, text string) csvimport.Options {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return csvimport.Options{File: path, Rejects: path + csvimport.RejectsSuffix}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func versions() csvimport.Assignments {
	return csvimport.Assignments{Experiment: "gate", UnitType: "user", UnitColumn: "userid", TreatmentColumn: "version"}
}

func wantResult(t *testing.T, got csvimport.Result, err error, want csvimport.Result) {
	t.Helper()
	if err != nil {
		t.Fatalf("import: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

func TestImportAssignments_rejects(t *testing.T) {
	t.Parallel()
	lines := []string{
		"\ufeffuserid,version,extra",
		"1,gate_30,x",
		"2,gate_40",   // ragged
		",gate_40,x",  // no unit
		"3,,x",        // no treatment
		"4,unheard,x", // the service says no
		strings.Repeat("5", 257) + ",gate_40,x",
		"6,\"gate_40,x", // open quote
		"1,gate_40,x",   // contradicts line 2
		"\xff7,gate_40,x",
		"",
		"8,gate_40,\"x\ny\"",
		"9,gate_40,x,y",
		"1,gate_30,again",
	}
	o := file(t, strings.Join(lines, "\r\n"))
	o.BatchRows = 3
	m := newMemory()
	got, err := csvimport.ImportAssignments(t.Context(), m, o, versions())
	wantResult(t, got, err, csvimport.Result{Lines: 12, Rejected: 9, Inserted: 2, Present: 1})
	if diff := cmp.Diff(map[string]string{"1": "gate_30", "8": "gate_40"}, m.treatments); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	want := strings.Join([]string{
		"line,reason,raw",
		`3,"has 2 fields, the header has 3","2,gate_40"`,
		`4,unit.id must not be empty,",gate_40,x"`,
		`5,the treatment is empty,"3,,x"`,
		`6,unknown treatment unheard,"4,unheard,x"`,
		`7,unit.id must be at most 256 bytes long,"` + strings.Repeat("5", 257) + `,gate_40,x"`,
		`8,has a quote that is open or misplaced,"6,""gate_40,x"`,
		`9,conflict: has gate_30,"1,gate_40,x"`,
		"10,unit.id must be valid UTF-8,\"\xff7,gate_40,x\"",
		`14,"has 4 fields, the header has 3","9,gate_40,x,y"`,
		"",
	}, "\n")
	if diff := cmp.Diff(want, read(t, o.Rejects)); diff != "" {
		t.Errorf("rejects (-want +got):\n%s", diff)
	}
	if read(t, o.File+".xpd-import") != "" {
		t.Error("the notes of an import that is done are left")
	}
}

func TestImport_wrongColumns(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"a column that is not there", "user,version\n1,a\n", `there is no column "userid", but: user, version`},
		{"a column twice", "userid,version,userid\n", `the column "userid" occurs twice`},
		{"an empty file", "", "its first line must name the columns"},
		{"a broken header", "userid,\"version\n", "the header has a quote that is open or misplaced"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMemory()
			_, err := csvimport.ImportAssignments(t.Context(), m, file(t, tt.text), versions())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("import = %v, want …%s…", err, tt.want)
			}
			if m.calls > 0 {
				t.Error("something was sent")
			}
		})
	}
}

// numbered makes a file of n lines; every tenth is ragged.
func numbered(n int) string {
	var b strings.Builder
	b.WriteString("userid,version\n")
	for i := range n {
		fmt.Fprintf(&b, "%d,%s", i, []string{"gate_30", "gate_40"}[i%2])
		if i%10 == 9 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// TestImport_resumes interrupts an import at each of its batches.
func TestImport_resumes(t *testing.T) {
	t.Parallel()
	text := numbered(100)
	whole := file(t, text)
	whole.BatchRows = 7
	all := newMemory()
	want, err := csvimport.ImportAssignments(t.Context(), all, whole, versions())
	wantResult(t, want, err, csvimport.Result{Lines: 100, Rejected: 10, Inserted: 90})

	for failAt := 1; failAt <= all.calls; failAt++ {
		o := file(t, text)
		o.BatchRows = 7
		m := newMemory()
		m.failAt = failAt
		if _, err := csvimport.ImportAssignments(t.Context(), m, o, versions()); !errors.Is(err, errLost) {
			t.Fatalf("failing at %d: import = %v, want the error of the service", failAt, err)
		}
		m.failAt, m.calls = 0, 0
		got, err := csvimport.ImportAssignments(t.Context(), m, o, versions())
		// What the lost answer would have said is stored before, now.
		if got.Inserted+got.Present != want.Inserted || got.Lines != want.Lines || got.Rejected != want.Rejected || err != nil {
			t.Errorf("failing at %d: resumed to %+v, %v, want %+v", failAt, got, err, want)
		}
		if m.calls != all.calls-failAt+1 {
			t.Errorf("failing at %d: %d batches were sent again, want %d", failAt, m.calls, all.calls-failAt+1)
		}
		if diff := cmp.Diff(all.treatments, m.treatments); diff != "" {
			t.Errorf("failing at %d: stored (-whole +resumed):\n%s", failAt, diff)
		}
		if diff := cmp.Diff(read(t, whole.Rejects), read(t, o.Rejects)); diff != "" {
			t.Errorf("failing at %d: rejects (-whole +resumed):\n%s", failAt, diff)
		}
	}
}

func TestImport_otherNotes(t *testing.T) {
	t.Parallel()
	o := file(t, numbered(20))
	o.BatchRows = 5
	m := newMemory()
	m.failAt = 2
	if _, err := csvimport.ImportAssignments(t.Context(), m, o, versions()); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	m.failAt = 0
	other := versions()
	other.Experiment = "other"
	if _, err := csvimport.ImportAssignments(t.Context(), m, o, other); err == nil || !strings.Contains(err.Error(), "--restart") {
		t.Errorf("import into another experiment with these notes = %v, want an error that names --restart", err)
	}
	if err := os.WriteFile(o.File, []byte(numbered(30)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := csvimport.ImportAssignments(t.Context(), m, o, versions()); err == nil || !strings.Contains(err.Error(), "--restart") {
		t.Errorf("import of a changed file with these notes = %v, want an error that names --restart", err)
	}
	o.Restart = true
	got, err := csvimport.ImportAssignments(t.Context(), m, o, versions())
	if err != nil || got.Lines != 30 {
		t.Errorf("restarted import = %+v, %v, want all 30 lines", got, err)
	}
}

func TestImport_stdinGzip(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write([]byte(numbered(50))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m := newMemory()
	o := csvimport.Options{File: "-", Stdin: bytes.NewReader(zipped.Bytes()), Rejects: filepath.Join(dir, "rejects.csv")}
	got, err := csvimport.ImportAssignments(t.Context(), m, o, versions())
	wantResult(t, got, err, csvimport.Result{Lines: 50, Rejected: 5, Inserted: 45})

	o.Stdin = bytes.NewReader(zipped.Bytes()[:zipped.Len()/2])
	if _, err := csvimport.ImportAssignments(t.Context(), m, o, versions()); err == nil {
		t.Error("half of a gzip file was imported without a complaint")
	}
}

// A slip of the hand must not cost the file that is imported.
func TestImport_rejectsOverInput(t *testing.T) {
	t.Parallel()
	const text = "userid,version\n1,gate_30\n2\n"
	o := file(t, text)
	link := filepath.Join(t.TempDir(), "link.csv")
	if err := os.Symlink(o.File, link); err != nil {
		t.Fatal(err)
	}
	for _, o.Rejects = range []string{o.File, link} {
		m := newMemory()
		if _, err := csvimport.ImportAssignments(t.Context(), m, o, versions()); err == nil || m.calls > 0 {
			t.Errorf("import with rejects in %s = %v after %d calls, want an error", o.Rejects, err, m.calls)
		}
		if got := read(t, o.File); got != text {
			t.Fatalf("the input is now %q", got)
		}
	}
}

// Spreadsheets begin a file with a byte order mark, and may quote its header.
func TestImport_byteOrderMark(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"\ufeffuserid,version\n1,gate_30\n", "\ufeff\"userid\",\"version\"\r\n\"1\",\"gate_30\"\r\n"} {
		m := newMemory()
		got, err := csvimport.ImportAssignments(t.Context(), m, file(t, text), versions())
		wantResult(t, got, err, csvimport.Result{Lines: 1, Inserted: 1})
	}
}

func TestImport_batches(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("u", 250)
	var b strings.Builder
	b.WriteString("userid,version\n")
	for i := range 12_000 {
		fmt.Fprintf(&b, "%s%d,gate_30\n", long, i)
	}
	o := file(t, b.String())
	o.BatchRows = client.MaxImportRows
	m := newMemory()
	got, err := csvimport.ImportAssignments(t.Context(), m, o, versions())
	wantResult(t, got, err, csvimport.Result{Lines: 12_000, Inserted: 12_000})
	if m.largest*len(long) > client.MaxImportBytes {
		t.Errorf("a batch of %d rows does not fit a body", m.largest)
	}
	o.BatchRows = client.MaxImportRows + 1
	if _, err := csvimport.ImportAssignments(t.Context(), m, o, versions()); err == nil {
		t.Error("batches beyond what the service takes are not refused")
	}
}

func TestImportEvents(t *testing.T) {
	t.Parallel()
	text := strings.Join([]string{
		"userid,retention,rounds,flag,total,off,cur",
		"1,TRUE,3,1,1999,99,EUR",
		"2,false,0,0,,,",
		"3,,2.5,,500,,USD",
		"4,maybe,1,0,,,", // not a number
		"5,TRUE,NaN,0,,,",
		"6,FALSE,1e3,2,,,", // not a flag
		"7,FALSE,,,19.99,,EUR",
		"",
	}, "\n")
	e := csvimport.Events{
		UnitType: "user", UnitColumn: "userid", OccurredAt: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		Columns: []csvimport.EventColumn{
			{Type: "retention", Column: "retention"}, {Type: "rounds", Column: "rounds"}, {Type: "flag", Column: "flag", Bool: true},
		},
		ItemsTotalColumn: "total", DiscountsColumn: "off", CurrencyColumn: "cur",
	}
	o := file(t, text)
	m := newMemory()
	got, err := csvimport.ImportEvents(t.Context(), m, o, e)
	wantResult(t, got, err, csvimport.Result{Lines: 7, Rejected: 4, Inserted: 7})
	var stored []string
	for _, e := range m.events {
		s := e.Unit + " " + e.Type
		if e.Value != nil {
			s += fmt.Sprintf(" %g", *e.Value)
		}
		if e.ItemsTotal != nil {
			s += fmt.Sprintf(" %d %s", *e.ItemsTotal, e.Currency)
		}
		if e.Discounts != nil {
			s += fmt.Sprintf(" -%d", *e.Discounts)
		}
		stored = append(stored, s)
	}
	slices.Sort(stored)
	want := []string{
		"1 flag", "1 purchase 1999 EUR -99", "1 retention", "1 rounds 3", "2 rounds 0", "3 purchase 500 USD", "3 rounds 2.5",
	}
	if diff := cmp.Diff(want, stored); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	for _, want := range []string{"5,retention must be a number, TRUE or FALSE", "6,rounds must be", "7,flag must be TRUE or FALSE, 1 or 0", "8,total must be a whole number"} {
		if got := read(t, o.Rejects); !strings.Contains(strings.ReplaceAll(got, `"`, ""), want) {
			t.Errorf("rejects lack %q:\n%s", want, got)
		}
	}
}

// TestImportEvents_ids holds the ids to what makes an import idempotent.
func TestImportEvents_ids(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	base := csvimport.Events{
		UnitType: "user", UnitColumn: "u", OccurredAt: at, Columns: []csvimport.EventColumn{{Type: "rounds", Column: "n"}},
	}
	ids := func(text string, change func(*csvimport.Events)) []string {
		e := base
		if change != nil {
			change(&e)
		}
		m := newMemory()
		if _, err := csvimport.ImportEvents(t.Context(), m, file(t, text), e); err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(maps.Keys(m.events))
	}
	first := ids("u,n\n1,5\n2,5\n", nil)
	// Computed by other means. Other ids would import what is stored a second time.
	frozen := []string{"0328ad0e-ff0b-5b3c-bcae-ba275a2964df", "8b3f4e8b-210c-547e-88f0-3076b4c258e2"}
	if diff := cmp.Diff(frozen, first); diff != "" {
		t.Errorf("ids (-frozen +got):\n%s", diff)
	}
	if diff := cmp.Diff(first, ids("x,n,u\n,5,2\n,5,1\n,5,1\n", nil)); diff != "" {
		t.Errorf("another order, other columns and a repeated line (-first +got):\n%s", diff)
	}
	same := "u,n,id\n1,5,e1\n"
	withID := func(e *csvimport.Events) { e.IDColumn = "id" }
	if diff := cmp.Diff(ids(same, withID), ids("u,n,id\n1,6,e1\n", withID)); diff != "" {
		t.Errorf("a corrected value under the source's id (-before +after):\n%s", diff)
	}
	for name, other := range map[string][]string{
		"another value":     ids("u,n\n1,6\n", nil),
		"another unit":      ids("u,n\n15,5\n", nil),
		"another time":      ids("u,n\n1,5\n", func(e *csvimport.Events) { e.OccurredAt = at.Add(1) }),
		"another unit type": ids("u,n\n1,5\n", func(e *csvimport.Events) { e.UnitType = "device" }),
		"another event":     ids("u,n\n1,5\n", func(e *csvimport.Events) { e.Columns = []csvimport.EventColumn{{Type: "r", Column: "n"}} }),
		"an id":             ids(same, withID),
	} {
		if slices.Contains(first, other[0]) {
			t.Errorf("%s has the id of another event", name)
		}
	}
	const id = "0195a0f4-6c3e-7b1a-9f55-0123456789ab"
	if got := ids("u,n,id\n1,5,"+id+"\n", withID); got[0] != id {
		t.Errorf("a UUID of the source became %s", got[0])
	}
}
