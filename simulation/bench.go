package simulation

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// BenchOptions is a load, how long its latencies are measured, and how often each
// disturbance is repeated after that.
type BenchOptions struct {
	Options
	Steady time.Duration
	Rounds int
}

// Bench measures a ready cluster: latencies under a steady load, and the pauses of
// repeated disturbances.
func Bench(ctx context.Context, c *localcluster.Cluster, o BenchOptions) (Report, error) {
	return Drive(ctx, c, o.Options, func(ctx context.Context, s *Session) error {
		s.Say("%g requests for treatments per second, and half as many exposures and purchases", o.Rate)
		if err := s.Hold(ctx, warmUp); err != nil {
			return err
		}
		s.Warm()
		if err := s.Hold(ctx, o.Steady); err != nil {
			return err
		}
		for range o.Rounds {
			for _, disturb := range []func(context.Context, *Session) error{killPostgres, loseNode, switchOver} {
				if err := disturb(ctx, s); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Pause sums up the pauses in writes of one kind of disturbance.
type Pause struct {
	Name   string `json:"name"`
	Rounds int    `json:"rounds"`
	P50    Millis `json:"p50_ms"`
	Max    Millis `json:"max_ms"`
}

// Pauses sums up each kind of disturbance, in the order of their first.
func (r Report) Pauses() []Pause {
	var names []string
	pauses := map[string][]time.Duration{}
	for _, d := range r.Disturbances {
		if !slices.Contains(names, d.Name) {
			names = append(names, d.Name)
		}
		pauses[d.Name] = append(pauses[d.Name], time.Duration(d.Pause))
	}
	out := make([]Pause, len(names))
	for i, name := range names {
		p := pauses[name]
		slices.Sort(p)
		out[i] = Pause{Name: name, Rounds: len(p), P50: Millis(quantile(p, 0.5)), Max: Millis(quantile(p, 1))}
	}
	return out
}

// WritePauses prints the summary of the pauses for people.
func (r Report) WritePauses(w io.Writer) error {
	rows := []string{"\trounds\tp50\tmax\ttarget"}
	for _, p := range r.Pauses() {
		rows = append(rows, fmt.Sprintf("%s\t%d\t%s\t%s\t≤ %s",
			p.Name, p.Rounds, wholeMillis(p.P50), wholeMillis(p.Max), wholeMillis(targetPause(p.Name))))
	}
	var b strings.Builder
	table(&b, "Pauses in writes", rows...)
	_, err := io.WriteString(w, b.String())
	return err
}
