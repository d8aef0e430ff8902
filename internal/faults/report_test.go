package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// run writes what go test -json prints of tests.
func run(t *testing.T, events ...event) string {
	t.Helper()
	var b strings.Builder
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	return b.String()
}

// all returns the passing tests of every fault but those in without.
func all(without ...int) []event {
	var events []event
	for n := 1; n <= faults; n++ {
		skip := false
		for _, w := range without {
			skip = skip || w == n
		}
		if !skip {
			events = append(events, event{Action: "pass", Package: "p", Test: fmt.Sprintf("TestF%02d_Something", n)})
		}
	}
	return events
}

func TestReport(t *testing.T) {
	t.Parallel()
	said := func(test, text string) event {
		return event{Action: "output", Package: "p", Test: test, Output: text + "\n"}
	}
	ended := func(test, action string) event { return event{Action: action, Package: "p", Test: test} }
	tests := []struct {
		name   string
		events []event
		line   string // one of the output
		err    string // part of the error, "" for none
	}{
		{"all pass", all(), "F1   ok ", ""},
		{"figures of two disturbances and of another test", append(all(7),
			said("TestF07_A", "    x_test.go:1: fault: F7 first: ok, pause 1200 ms, failed 1 of 9, lost 0 of 8, rejoined after 2.4 s, primary n1 → n2"),
			said("TestF07_A", "    x_test.go:1: fault: F7 second: ok, pause 900 ms, failed 1 of 9, lost 0 of 8, rejoined after 3.5 s, primary n1 → n2"),
			ended("TestF07_A", "pass"),
			said("TestF07_B/deeper", "fault: F7: ok, pause 10 ms, failed 2, lost 0, rejoined after 1 s"),
			ended("TestF07_B/deeper", "pass"), ended("TestF07_B", "pass"),
		), "F7   ok       pause  1200 ms  failed 3  lost 0  rejoin  3.5 s", ""},
		{"one fails", append(all(9), ended("TestF09_A", "fail"), ended("TestF09_B", "pass")), "F9   FAILED   pause     0 ms  failed 0  lost 0  rejoin  0.0 s  TestF09_A", "1 of 50 faults failed"},
		{"one never ends", append(all(9), said("TestF09_A", "hello")), "TestF09_A", "1 of 50 faults failed"},
		{"one has no test", all(50), "F50  FAILED: it has no test", "1 of 50 faults failed"},
		{"one is skipped", append(all(32), said("TestF32_A", "    x_test.go:3: there is no faketime"), ended("TestF32_A", "skip")), "F32  skipped: TestF32_A: there is no faketime", ""},
		{
			"one of two is skipped", append(all(30), ended("TestF30_A", "pass"), said("TestF30_B", "    x_test.go:3: no room"), ended("TestF30_B", "skip")),
			"F30  ok       pause     0 ms  failed 0  lost 0  rejoin  0.0 s  (skipped: TestF30_B: no room)", "",
		},
		{"a package fails", append(all(), event{Action: "fail", Package: "p"}), "F1   ok", "failed: p"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := read(strings.NewReader("# a line of the build\n"+run(t, tt.events...)), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			err = r.write(&out)
			if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("write() = %v, want an error with %q", err, tt.err)
			}
			if !strings.Contains(out.String(), tt.line) {
				t.Errorf("write() printed\n%s\nwant a line with %q", out.String(), tt.line)
			}
			if got := strings.Count(out.String(), "\n"); got != faults {
				t.Errorf("write() printed %d lines, want one for each fault", got)
			}
		})
	}
}

func TestReport_tooManySkipped(t *testing.T) {
	t.Parallel()
	events := all(1, 2, 3, 4, 5, 6)
	for n := range maxSkip + 1 {
		events = append(events, event{Action: "skip", Package: "p", Test: fmt.Sprintf("TestF%02d_Something", n+1)})
	}
	r, err := read(strings.NewReader(run(t, events...)), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.write(io.Discard); err == nil || !strings.Contains(err.Error(), "skipped") {
		t.Errorf("write() = %v, want that too many were skipped", err)
	}
}
