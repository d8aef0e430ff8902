package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/stats"
)

// nameWidth is the room for the name of a treatment in 80 columns.
const nameWidth = 17

// WriteText prints the report in lines of at most 80 columns.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Experiment)
	fmt.Fprintf(&b, "run %d, %s, started %s\n\n", r.Run, r.State, r.StartedAt.UTC().Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(&b, "%-*s %9s %11s %11s\n", nameWidth+10, "treatment", "weight", "assigned", "exposed")
	for _, t := range r.Treatments {
		name := shorten(t.Treatment, nameWidth)
		if t.Control {
			name += " (control)"
		}
		fmt.Fprintf(&b, "%-*s %9s %11s %11s\n", nameWidth+10, name, count(int64(t.Weight)), count(t.Assigned), count(t.Exposed))
	}
	b.WriteString(r.SRM.text())
	for _, m := range r.Metrics {
		m.write(&b, 100*(1-r.Alpha))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s SRM) text() string {
	test := fmt.Sprintf("chi-square %s, df %d, p %s", number(s.Statistic, 4), s.DF, pValue(s.P))
	switch {
	case s.Mismatch:
		return "split: MISMATCH (" + test + ").\n" +
			"The units are not split as the weights say: do not trust what follows.\n"
	case !s.P.Defined:
		return "split: nothing to check\n"
	}
	return "split: as the weights say (" + test + ")\n"
}

func (m Metric) write(b *strings.Builder, confidence float64) {
	fmt.Fprintf(b, "\n%s\n  %s\n", m.Metric, m.describe())
	if m.Problem != "" {
		fmt.Fprintf(b, "  no result: %s\n", m.Problem)
		return
	}
	value := "mean"
	if m.Kind == experiment.MetricConversion {
		value = "rate"
	}
	fmt.Fprintf(b, "%-*s %9s %9s %10s %-23s %7s\n", nameWidth, "treatment", "units", value,
		"difference", fmt.Sprintf("%g %% interval", confidence), "p")
	for _, r := range m.Results {
		fmt.Fprintf(b, "%-*s %9s %9s", nameWidth, shorten(r.Treatment, nameWidth), count(r.Units), number(r.Value, 6))
		if c := r.Comparison; c != nil {
			fmt.Fprintf(b, " %10s %-23s %7s\n", number(c.Difference.Estimate, 4), interval(c.Difference.Interval, 1, ""), pValue(c.P))
			fmt.Fprintf(b, "%*s %10s %s", nameWidth+20, "lift", percent(c.Lift.Estimate), interval(c.Lift.Interval, 100, " %"))
		}
		b.WriteByte('\n')
	}
}

func (m Metric) describe() string {
	switch m.Kind {
	case experiment.MetricConversion:
		return "share of units with an event " + m.Event
	case experiment.MetricSales:
		if m.Currency == "" {
			return "sales per unit, from events " + m.Event
		}
		return "sales per unit in minor units of " + m.Currency + ", from events " + m.Event
	case experiment.MetricMean:
	}
	return "mean per unit of the values of events " + m.Event
}

// shorten cuts s to width characters.
func shorten(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// count groups digits by three.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

const undefined = "-"

func number(n stats.Number, digits int) string {
	if !n.Defined {
		return undefined
	}
	return significant(n.Value, digits)
}

// significant prints v with that many significant digits: a whole number with more
// of them in full, unless it is too wide for a column, where as for tiny numbers
// four digits and an exponent must do.
func significant(v float64, digits int) string {
	a := math.Abs(v)
	if a >= math.Pow10(digits) && a < min(1e7, math.Pow10(digits+3)) {
		return count(int64(math.Round(v)))
	}
	if a >= math.Pow10(digits) || a < 1e-4 {
		digits = min(digits, 4)
	}
	return strconv.FormatFloat(v, 'g', digits, 64)
}

func percent(n stats.Number) string {
	if !n.Defined {
		return undefined
	}
	return significant(100*n.Value, 3) + " %"
}

// interval prints i with its ends multiplied by scale.
func interval(i stats.Interval, scale float64, unit string) string {
	if !i.Defined {
		return undefined
	}
	return "[" + significant(scale*i.Low, 3) + unit + ", " + significant(scale*i.High, 3) + unit + "]"
}

func pValue(n stats.Number) string {
	switch {
	case !n.Defined:
		return undefined
	case n.Value < 0.0001:
		return "<0.0001"
	}
	return strconv.FormatFloat(n.Value, 'f', 4, 64)
}
