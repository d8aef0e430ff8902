package csvimport

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readRecords returns what a reader makes of text, in a short form: line number,
// and fields or what is wrong.
func readRecords(t *testing.T, text string) (got [][]string, lines []int64) {
	t.Helper()
	r := newRecordReader(strings.NewReader(text))
	for {
		rec, err := r.next()
		if errors.Is(err, io.EOF) {
			return got, lines
		}
		if err != nil {
			t.Fatalf("next() = %v", err)
		}
		fields := rec.fields
		if rec.bad != "" {
			fields = []string{"BAD", rec.bad}
		}
		got = append(got, fields)
		lines = append(lines, rec.line)
	}
}

func TestRecordReader(t *testing.T) {
	t.Parallel()
	bad := []string{"BAD", badQuote}
	tests := []struct {
		name, text string
		want       [][]string
		wantLines  []int64
	}{
		{"plain", "a,b\nc,d\n", [][]string{{"a", "b"}, {"c", "d"}}, []int64{1, 2}},
		{"no end of the last line", "a,b\nc,d", [][]string{{"a", "b"}, {"c", "d"}}, []int64{1, 2}},
		{"carriage returns and empty lines", "a,b\r\n\r\n\nc,\r\n", [][]string{{"a", "b"}, {"c", ""}}, []int64{1, 4}},
		{"quotes", "\"a,1\",\"say \"\"b\"\"\"\n", [][]string{{"a,1", `say "b"`}}, []int64{1}},
		{"a field that spans lines", "\"a\n1\n\",b\nc,d\n", [][]string{{"a\n1\n", "b"}, {"c", "d"}}, []int64{1, 4}},
		{"a quote that nothing closes", "a,b\n\"c,d\ne,f\n", [][]string{{"a", "b"}, bad, {"e", "f"}}, []int64{1, 2, 3}},
		{"two of them", "\"c,d\ne,f\n\"g,h\ni,j\n", [][]string{bad, {"e", "f"}, bad, {"i", "j"}}, []int64{1, 2, 3, 4}},
		{"a quote in the middle", "5\" screen,b\nc,d\n", [][]string{bad, {"c", "d"}}, []int64{1, 2}},
		{"a closed field goes on", "\"a\"x,b\nc,d\n", [][]string{bad, {"c", "d"}}, []int64{1, 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, lines := readRecords(t, tt.text)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.wantLines, lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

// endless repeats a text for ever.
type endless struct{ text string }

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e.text)
	}
	return n, nil
}

// TestRecordReader_bounded reads what would fill the memory of encoding/csv.
func TestRecordReader_bounded(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	for _, text := range []string{"x", "x,", "\"x,\n,", "\"\n", "\"\"\n\""} {
		r := newRecordReader(io.LimitReader(endless{strings.Repeat(text, 1000)}, size))
		largest, kept := 0, 0
		for range 2000 {
			rec, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, len(rec.raw))
			ahead := 0
			for _, line := range r.ahead {
				ahead += len(line.text)
			}
			kept = max(kept, ahead)
		}
		if largest > maxRecord {
			t.Errorf("%q repeated: a record of %d bytes", text, largest)
		}
		if kept > 2*maxRecord {
			t.Errorf("%q repeated: the reader keeps %d bytes for the lines to come", text, kept)
		}
	}
}

// FuzzRecordReader compares with encoding/csv on what both can read, and checks
// that no line gets lost.
func FuzzRecordReader(f *testing.F) {
	f.Add("a,b\n\"c\nd\",e\n")
	f.Add("\"a\r\nb\"\n\n\"x")
	f.Fuzz(func(t *testing.T, text string) {
		r := newRecordReader(strings.NewReader(text))
		last := int64(0)
		var got [][]string
		clean := true
		for {
			rec, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if rec.line <= last || rec.last < rec.line {
				t.Fatalf("lines %d to %d after line %d", rec.line, rec.last, last)
			}
			last = rec.last
			clean = clean && rec.bad == ""
			got = append(got, rec.fields)
		}
		c := csv.NewReader(strings.NewReader(text))
		c.FieldsPerRecord = -1
		want, err := c.ReadAll()
		if err != nil || !clean || bytes.ContainsRune([]byte(text), '\r') {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("encoding/csv and this reader differ (-csv +got):\n%s", diff)
		}
	})
}
