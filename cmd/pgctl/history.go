package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/failover"
)

// maxEvents is how many events the cluster remembers.
const maxEvents = 200

type historyCmd struct {
	Epoch uint64 `arg:"" optional:"" help:"Everything that is known of this epoch, as a report."`
	Long  bool   `short:"l" help:"What and why in full, with the phases, instead of a line for each event."`
	Limit int    `short:"n" default:"50" help:"Show at most this many events, up to 200."`
	Since string `placeholder:"WHEN" help:"Only what happened since then: 2h (ago), 2026-11-21, or 2026-11-21T03:14:15Z."`
}

// Run prints the events of the cluster, oldest first: a line for each, or all about
// those of one epoch.
func (c *historyCmd) Run(ctx context.Context, env *env) error {
	since, err := sinceWhen(c.Since, time.Now())
	if err != nil {
		return err
	}
	limit := c.Limit
	if c.Epoch != 0 || c.Since != "" {
		limit = max(limit, maxEvents) // and what does not count is left out here
	}
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	all, err := env.ask.ClusterHistory(ctx, limit)
	if err != nil {
		return env.unanswered(err)
	}
	events := slices.DeleteFunc(slices.Clone(all), func(e failover.Event) bool {
		return e.At.Before(since) || (c.Epoch != 0 && !about(e, c.Epoch))
	})
	switch {
	case c.Epoch != 0 && len(events) == 0:
		return unknownEpoch(c.Epoch, all)
	case env.json:
		return printJSON(env.out, append([]failover.Event{}, last(events, c.Limit)...))
	case c.Epoch != 0:
		return env.print(nil, epochReport(c.Epoch, events, all))
	}
	show := historyTable
	if c.Long {
		show = historyText
	}
	return env.print(nil, show(last(events, c.Limit)))
}

func last(events []failover.Event, n int) []failover.Event {
	return events[max(0, len(events)-n):]
}

// sinceWhen reads a time, or how long ago that was.
func sinceWhen(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05Z", "2006-01-02T15:04Z", "2006-01-02"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %s: want how long ago, such as 90m or 48h, or a time, such as 2026-11-21T03:14:15Z or 2026-11-21 (UTC)", s)
}

// about reports whether e is about an epoch: it happened in it, or led or would have
// led to it.
func about(e failover.Event, epoch uint64) bool {
	return e.Epoch == epoch || slices.ContainsFunc(e.Steps, func(s failover.PhaseTime) bool { return s.Epoch == epoch })
}

func unknownEpoch(epoch uint64, all []failover.Event) error {
	if len(all) == 0 {
		return fmt.Errorf("nothing is known of epoch %d: nothing has happened yet", epoch)
	}
	low, high := all[0].Epoch, all[0].Epoch
	for _, e := range all {
		low, high = min(low, e.Epoch), max(high, e.Epoch)
	}
	return fmt.Errorf("nothing is known of epoch %d: the last %d events are of the epochs %d to %d", epoch, len(all), low, high)
}

// historyText tells each event in a few lines.
func historyText(events []failover.Event) string {
	if len(events) == 0 {
		return historyTable(events)
	}
	var b strings.Builder
	for _, e := range events {
		b.WriteString(eventText(e))
	}
	return b.String()
}

// historyTable has a line for each event, and one for each day.
func historyTable(events []failover.Event) string {
	if len(events) == 0 {
		return "nothing has happened yet\n"
	}
	var b strings.Builder
	rows := [][]string{{"TIME", "EPOCH", "WHAT", "NODES", "TOOK", "WHY"}}
	day := ""
	for _, e := range events {
		at := e.At.UTC()
		if today := at.Format(time.DateOnly); today != day {
			day = today
			rows = append(rows, []string{day})
		}
		rows = append(rows, []string{at.Format("15:04:05Z"), strconv.FormatUint(e.Epoch, 10), e.Kind, moved(e), tookText(e), e.Reason})
	}
	table(&b, rows, narrow{5, 30, cut}, narrow{3, 14, shorten}, narrow{2, 12, cut}, narrow{5, 8, cut})
	b.WriteString("pgctl history EPOCH tells all about an epoch\n")
	return b.String()
}

// moved names the nodes of an event.
func moved(e failover.Event) string {
	if e.From != "" && e.From != e.Node {
		return fmt.Sprintf("%s -> %s", e.From, orNone(string(e.Node)))
	}
	return string(e.Node)
}
