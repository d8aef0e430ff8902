package simulation

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// FailoverReport is what came of BenchFailover.
type FailoverReport struct {
	Rounds    int              `json:"rounds"`
	Scenarios []ScenarioPauses `json:"scenarios"`
	Report    Report           `json:"report"`
}

// ScenarioPauses sums up the pauses of one scenario, as a client sees them: the
// longest time between two acknowledged writes. Targets are upper bounds.
type ScenarioPauses struct {
	Name      string   `json:"name"`
	Pauses    []Millis `json:"pauses_ms"` // in the order of the rounds
	P50       Millis   `json:"p50_ms"`
	P99       Millis   `json:"p99_ms"`
	Max       Millis   `json:"max_ms"`
	TargetP50 Millis   `json:"target_p50_ms"`
	TargetMax Millis   `json:"target_max_ms"`
	Stayed    int      `json:"stayed"` // rounds in which the primary stayed where it was
}

// judge sums up the disturbances by scenario, in the order in which they are played.
func judge(disturbances []Disturbance) []ScenarioPauses {
	var out []ScenarioPauses
	for _, sc := range scenarios() {
		p := ScenarioPauses{Name: sc.name, TargetP50: Millis(sc.p50), TargetMax: Millis(sc.max)}
		var sorted []time.Duration
		for _, d := range disturbances {
			if d.Name != sc.name {
				continue
			}
			p.Pauses = append(p.Pauses, d.Pause)
			sorted = append(sorted, time.Duration(d.Pause))
			if d.From == d.To {
				p.Stayed++
			}
		}
		if len(sorted) == 0 {
			continue
		}
		slices.Sort(sorted)
		p.P50, p.P99, p.Max = Millis(quantile(sorted, 0.5)), Millis(quantile(sorted, 0.99)), Millis(quantile(sorted, 1))
		out = append(out, p)
	}
	return out
}

// Missed says which target was missed, or nothing.
func (p ScenarioPauses) Missed() string {
	switch {
	case p.P50 > p.TargetP50:
		return fmt.Sprintf("p50 %s is above %s", wholeMillis(p.P50), wholeMillis(p.TargetP50))
	case p.Max > p.TargetMax:
		return fmt.Sprintf("max %s is above %s", wholeMillis(p.Max), wholeMillis(p.TargetMax))
	case p.Stayed > 0:
		return fmt.Sprintf("the primary stayed in %d rounds", p.Stayed)
	}
	return ""
}

// Err says which promises were broken and which targets were missed, or nil.
func (r FailoverReport) Err() error {
	errs := []error{r.Report.Err()}
	for _, p := range r.Scenarios {
		if why := p.Missed(); why != "" {
			errs = append(errs, fmt.Errorf("%s: %s", p.Name, why))
		}
	}
	return errors.Join(errs...)
}

// WriteText prints the report for people.
func (r FailoverReport) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nseed %d, %g requests for treatments per second, %.0f s of load\n", r.Report.Seed, r.Report.Rate, r.Report.Seconds)
	rows := []string{"\trounds\tp50\ttarget\tp99\tmax\ttarget\t"}
	for _, p := range r.Scenarios {
		verdict := "ok"
		if p.Missed() != "" {
			verdict = "MISSED"
		}
		rows = append(rows, fmt.Sprintf("%s\t%d\t%s\t≤ %s\t%s\t%s\t≤ %s\t%s", p.Name, len(p.Pauses),
			wholeMillis(p.P50), wholeMillis(p.TargetP50), wholeMillis(p.P99), wholeMillis(p.Max), wholeMillis(p.TargetMax), verdict))
	}
	table(&b, "Longest time without an acknowledged write", rows...)
	r.Report.writeCounts(&b)
	r.Report.writeAudits(&b)
	if len(r.Report.Complaints) > 0 {
		fmt.Fprintf(&b, "\nWhat went wrong, the first of it\n  %s\n", strings.Join(r.Report.Complaints, "\n  "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
