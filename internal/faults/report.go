package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The design names the faults F1 to F50.
const (
	faults  = 50
	maxSkip = 5
)

// maxLine bounds a line of go test -json.
const maxLine = 16 << 20

// event is a line of go test -json.
type event struct {
	Action  string `json:"Action"`
	Package string `json:"Package"`
	Test    string `json:"Test"`
	Output  string `json:"Output"`
}

// outcome is what one test came to.
type outcome struct {
	name   string
	result string // pass, fail or skip; "" while it runs
	why    string // it was skipped

	pause, failed, lost int
	rejoin              float64
}

// report is what is known of each fault.
type report struct {
	tests  map[string]*outcome // by package and name
	broken []string            // packages that failed
}

var (
	faultTest = regexp.MustCompile(`^TestF(\d\d)_`)
	faultLine = regexp.MustCompile(`fault: (F\d+.*?), pause (\d+) ms, failed (\d+)[^,]*, lost (\d+)[^,]*, rejoined after ([\d.]+) s`)
	skipLine  = regexp.MustCompile(`^\s+\S+_test\.go:\d+: (.*)\n$`)
)

// read reads the whole of a test run and passes what is worth it on as progress.
func read(in io.Reader, progress io.Writer) (*report, error) {
	r := &report{tests: map[string]*outcome{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintf(progress, "%s\n", lines.Text()) // of the build
			continue
		}
		r.take(e, progress)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the tests' output: %w", err)
	}
	return r, nil
}

func (r *report) take(e event, progress io.Writer) {
	top, _, sub := strings.Cut(e.Test, "/")
	if e.Test == "" {
		if e.Action == "fail" {
			r.broken = append(r.broken, e.Package)
		}
		return
	}
	if !faultTest.MatchString(top) {
		return
	}
	key := e.Package + " " + top
	o := r.tests[key]
	if o == nil {
		o = &outcome{name: top}
		r.tests[key] = o
	}
	switch e.Action {
	case "output":
		o.hear(e.Output, progress)
	case "pass", "fail", "skip":
		if !sub {
			o.result = e.Action
			fmt.Fprintf(progress, "%s: %s\n", top, e.Action)
		}
	}
}

// hear takes what a test printed.
func (o *outcome) hear(line string, progress io.Writer) {
	if m := skipLine.FindStringSubmatch(line); m != nil {
		o.why = m[1]
	}
	m := faultLine.FindStringSubmatch(line)
	if m == nil {
		return
	}
	fmt.Fprintf(progress, "  %s\n", strings.TrimSpace(line[strings.Index(line, "fault:"):]))
	number := func(s string) int {
		n, _ := strconv.Atoi(s) // digits, says the expression
		return n
	}
	rejoin, _ := strconv.ParseFloat(m[5], 64)
	o.pause, o.failed, o.lost = max(o.pause, number(m[2])), max(o.failed, number(m[3])), max(o.lost, number(m[4]))
	o.rejoin = max(o.rejoin, rejoin)
}

// write prints a line for each fault and returns an error unless all is well.
func (r *report) write(w io.Writer) error {
	bad, skipped := 0, 0
	for n := 1; n <= faults; n++ {
		text, result := r.fault(n)
		switch result {
		case "fail":
			bad++
		case "skip":
			skipped++
		}
		if _, err := fmt.Fprintf(w, "F%-3d %s\n", n, text); err != nil {
			return err
		}
	}
	switch {
	case bad > 0:
		return fmt.Errorf("%d of %d faults failed or have no test", bad, faults)
	case skipped > maxSkip:
		return fmt.Errorf("%d faults were skipped, at most %d may be", skipped, maxSkip)
	case len(r.broken) > 0:
		return fmt.Errorf("failed: %s", strings.Join(r.broken, ", "))
	}
	return nil
}

// fault sums up the tests of one fault. It passed if each of them that was not
// skipped did.
func (r *report) fault(n int) (text, result string) {
	var of []*outcome
	for _, o := range r.tests {
		if m := faultTest.FindStringSubmatch(o.name); m[1] == fmt.Sprintf("%02d", n) {
			of = append(of, o)
		}
	}
	if len(of) == 0 {
		return "FAILED: it has no test", "fail"
	}
	slices.SortFunc(of, func(a, b *outcome) int { return strings.Compare(a.name, b.name) })
	sum := outcome{result: "skip"}
	var failed, skipped []string
	for _, o := range of {
		switch o.result {
		case "pass":
			sum.result = "pass"
		case "skip":
			skipped = append(skipped, o.name+": "+o.why)
		default: // also one that never ended
			failed = append(failed, o.name)
		}
		sum.pause, sum.lost, sum.rejoin = max(sum.pause, o.pause), max(sum.lost, o.lost), max(sum.rejoin, o.rejoin)
		sum.failed += o.failed
	}
	figures := fmt.Sprintf("pause %5d ms  failed %d  lost %d  rejoin %4.1f s", sum.pause, sum.failed, sum.lost, sum.rejoin)
	switch {
	case len(failed) > 0:
		return "FAILED   " + figures + "  " + strings.Join(failed, ", "), "fail"
	case sum.result == "skip":
		return "skipped: " + strings.Join(skipped, "; "), "skip"
	case len(skipped) > 0: // a part of the fault was not shown
		figures += "  (skipped: " + strings.Join(skipped, "; ") + ")"
	}
	return "ok       " + figures, "pass"
}
