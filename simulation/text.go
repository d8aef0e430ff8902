package simulation

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/xpd-platform/xpd/stats"
)

// WriteText prints the report for people.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nseed %d, %g requests for treatments per second, %.1f s of load\n", r.Seed, r.Rate, r.Seconds)
	r.writeDisturbances(&b)
	r.writeCounts(&b)
	r.writeAudits(&b)
	r.writeLatency(&b)
	r.writeAllocation(&b)
	if len(r.Complaints) > 0 {
		fmt.Fprintf(&b, "\nWhat went wrong, the first of it\n")
		for _, c := range r.Complaints {
			fmt.Fprintf(&b, "  %s\n", c)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// table prints aligned columns; cells of a row are separated by tabs.
func table(b *strings.Builder, title string, rows ...string) {
	fmt.Fprintf(b, "\n%s\n", title)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(t, "  %s\n", r)
	}
	_ = t.Flush() // a builder takes everything
}

func (r Report) writeDisturbances(b *strings.Builder) {
	rows := []string{"\tpause in writes\ttarget\tprimary\thealed after"}
	for _, d := range r.Disturbances {
		rows = append(rows, fmt.Sprintf("%s\t%s\t≤ %s\t%s → %s\t%.1f s",
			d.Name, wholeMillis(d.Pause), wholeMillis(d.Target), d.From, d.To, time.Duration(d.Healed).Seconds()))
	}
	table(b, "Disturbances", rows...)
}

func (r Report) writeCounts(b *strings.Builder) {
	turned := ""
	if r.Requests.TurnedAway > 0 {
		turned = fmt.Sprintf(" (%d of them never sent: too many were waiting)", r.Requests.TurnedAway)
	}
	table(b, "Requests",
		fmt.Sprintf("made\t%d", r.Requests.Made),
		fmt.Sprintf("failed\t%d%s", r.Requests.Failed, turned),
		fmt.Sprintf("retried\t%d", r.Requests.Retried))
	table(b, "Acknowledged",
		fmt.Sprintf("assignments\t%d", r.Acknowledged.Assignments),
		fmt.Sprintf("exposures\t%d", r.Acknowledged.Exposures),
		fmt.Sprintf("events\t%d", r.Acknowledged.Events),
		fmt.Sprintf("answers that contradict an earlier one\t%d", r.Changed),
		fmt.Sprintf("units that were told two treatments\t%d", r.TornUnits))
}

func (r Report) writeAudits(b *strings.Builder) {
	rows := []string{"\tassignments\texposures\tevents\tchanged\tunits with two treatments"}
	for _, a := range r.Audits {
		rows = append(rows, fmt.Sprintf("%s, %s\t%d\t%d\t%d\t%d\t%d", a.Node, a.Role,
			a.MissingAssignments, a.MissingExposures, a.MissingEvents, a.Changed, a.TornUnits+a.LayerUnits))
	}
	table(b, "Acknowledged, but missing in the tables of", rows...)
}

func (r Report) writeLatency(b *strings.Builder) {
	for _, part := range []struct {
		title string
		of    func(StreamLatency) Latency
	}{
		{"Latency outside the disturbances, in ms from when a request was due", func(l StreamLatency) Latency { return l.Outside }},
		{"Latency during the disturbances, until a second after the cluster had healed", func(l StreamLatency) Latency { return l.During }},
	} {
		rows := []string{"\trequests\tp50\tp99\tp99.9\tmax"}
		for _, l := range r.Latency {
			x := part.of(l)
			rows = append(rows, fmt.Sprintf("%s\t%d\t%s\t%s\t%s\t%s", l.Stream, x.Count, x.P50, x.P99, x.P999, x.Max))
		}
		table(b, part.title, rows...)
	}
	fmt.Fprintf(b, "\nOutside the disturbances the p99.9 of treatments is %s ms above the floor; the target is at most %s.\n",
		r.AboveFloor, targetAboveFloor)
}

// FaultLines says what came of each disturbance in one line, as make faults reads
// it.
func (r Report) FaultLines() []string {
	outcome := "ok"
	if err := r.Err(); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		outcome = "FAILED (" + first + ")"
	}
	lost := 0
	for _, a := range r.Audits {
		lost = max(lost, a.MissingAssignments+a.MissingExposures+a.MissingEvents+a.Changed)
	}
	lines := make([]string, len(r.Disturbances))
	for i, d := range r.Disturbances {
		lines[i] = fmt.Sprintf("fault: %s: %s, pause %d ms, failed %d of %d, lost %d of %d, rejoined after %.1f s, primary %s → %s",
			d.Name, outcome, time.Duration(d.Pause).Milliseconds(), r.Requests.Failed, r.Requests.Made,
			lost, r.Acknowledged.Assignments+r.Acknowledged.Exposures+r.Acknowledged.Events,
			time.Duration(d.Rejoin).Seconds(), d.From, d.To)
	}
	return lines
}

func wholeMillis(m Millis) string { return fmt.Sprintf("%d ms", time.Duration(m).Milliseconds()) }

// String shows milliseconds with one decimal.
func (m Millis) String() string {
	return fmt.Sprintf("%.1f", float64(time.Duration(m).Microseconds())/1000)
}

func (r Report) writeAllocation(b *strings.Builder) {
	var rows []string
	for _, a := range r.Allocation {
		parts := make([]string, len(a.Treatments))
		weights := make([]string, len(a.Treatments))
		for i, t := range a.Treatments {
			parts[i] = fmt.Sprintf("%s %d", t.Key, t.Units)
			weights[i] = fmt.Sprint(t.Weight)
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\tweights %s\t%s", a.Experiment,
			strings.Join(parts, ", "), strings.Join(weights, ":"), chiSquareText(a.ChiSquare)))
	}
	table(b, "Allocation", rows...)
}

func chiSquareText(c stats.ChiSquare) string {
	if !c.P.Defined {
		return "no units"
	}
	text := fmt.Sprintf("chi-square %.2f (%d df), p %.3f", c.Statistic.Value, c.DF, c.P.Value)
	if c.Mismatch() {
		text += ": does not fit the weights"
	}
	return text
}
