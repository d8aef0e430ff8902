package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xpd-platform/xpd/failover"
)

// epochReport is all that is known of one epoch.
func epochReport(epoch uint64, events, all []failover.Event) string {
	var b strings.Builder
	heading := fmt.Sprintf("epoch %d", epoch)
	if i := slices.IndexFunc(all, func(e failover.Event) bool { return opens(e) && e.Epoch == epoch }); i >= 0 {
		e := all[i]
		until := "is primary since"
		end := ""
		if j := slices.IndexFunc(all, func(e failover.Event) bool { return opens(e) && e.Epoch > epoch }); j >= 0 {
			until = "was primary from"
			end = fmt.Sprintf(" to %s (then %s, epoch %d)", all[j].At.UTC().Format(pauseEnd), all[j].Node, all[j].Epoch)
		}
		heading += fmt.Sprintf(": %s %s %s%s", e.Node, until, e.At.UTC().Format(pauseEnd), end)
	} else if events[0].Epoch != epoch {
		heading += ": was never opened"
	}
	sentence(&b, "  ", "%s", heading)
	for _, e := range events {
		b.WriteByte('\n')
		b.WriteString(eventReport(e))
	}
	return b.String()
}

// opens reports whether e is the end of an operation that made somebody primary.
func opens(e failover.Event) bool {
	n := len(e.Steps)
	return n > 0 && e.Steps[n-1].Phase == phaseOpen
}

// phaseOpen is the last step of an operation that made somebody primary.
const phaseOpen failover.Phase = "open"

// eventHead is a line with when and what.
func eventHead(e failover.Event) string {
	out := fmt.Sprintf("%s  epoch %d  %s %s", e.At.UTC().Format("2006-01-02 15:04:05.000Z"), e.Epoch, e.Kind, moved(e))
	if took := tookText(e); took != "" {
		out = strings.TrimRight(out, " ") + ", took " + took
	}
	if out = strings.TrimRight(out, " "); utf8.RuneCountInString(out) <= width {
		return out + "\n"
	}
	var b strings.Builder
	sentence(&b, "    ", "%s", out)
	return b.String()
}

// tookText says how long e took. What has no phases to compare it with, and took long,
// needs no milliseconds.
func tookText(e failover.Event) string {
	switch {
	case e.Took <= 0:
		return ""
	case len(e.Steps) == 0 && e.Took >= 10*time.Second:
		return fmt.Sprintf("%d s", e.Took/time.Second)
	}
	return shortly(e.Took)
}

// eventText is an event: when and what, why and, if it passed through phases, how
// long each took.
func eventText(e failover.Event) string {
	var b strings.Builder
	b.WriteString(eventHead(e))
	sentence(&b, "    ", "    %s", e.Reason)
	if len(e.Steps) > 0 {
		sentence(&b, "    ", "    %s", phases(e))
	}
	if text := pauseText(e); text != "" {
		sentence(&b, "    ", "    %s", text)
	}
	return b.String()
}

// phases tells how long each phase of e took. The last one of an operation that
// reached its end is the opening itself.
func phases(e failover.Event) string {
	var out []string
	for i := range e.Steps {
		text := stepOf(e, i)
		if took := stepTook(e, i); took > 0 {
			text += " " + shortly(took)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// soFar tells how long the phases of an operation took that are over, and which is not.
func soFar(op failover.Operation) string {
	return phases(failover.Event{Steps: op.Steps, At: op.Steps[len(op.Steps)-1].At})
}

// stepOf names step i of e.
func stepOf(e failover.Event, i int) string {
	return stepName(e.Steps[i], e.Steps[max(0, i-1)].Epoch)
}

// stepTook is how long step i of e lasted.
func stepTook(e failover.Event, i int) time.Duration {
	end := e.At
	if i+1 < len(e.Steps) {
		end = e.Steps[i+1].At
	}
	return end.Sub(e.Steps[i].At)
}

// pauseText says for how long nobody could write, if e made that so.
func pauseText(e failover.Event) string {
	i := slices.IndexFunc(e.Steps, func(s failover.PhaseTime) bool {
		return s.Phase == failover.PhaseStop || s.Phase == failover.PhaseRecruit || s.Phase == failover.PhasePromote
	})
	if i < 0 {
		return ""
	}
	text := "writes paused for " + shortly(e.At.Sub(e.Steps[i].At))
	switch {
	case e.Unwell > 0:
		text += fmt.Sprintf(" after the decision, and for up to %s before it", shortly(e.Unwell))
	case e.Steps[i].Phase == failover.PhaseRecruit:
		text += ", counted from the decision"
	}
	return text
}

// eventReport is an event with all that is known of it.
func eventReport(e failover.Event) string {
	var b strings.Builder
	b.WriteString(eventHead(e))
	if e.SetAside == nil { // which has more to say
		sentence(&b, "    ", "  why: %s", e.Reason)
	}
	for _, seen := range e.Evidence {
		sentence(&b, "    ", "  seen: %s", seen)
	}
	if len(e.Steps) > 0 {
		b.WriteString("  phases:\n")
		rows := [][]string{}
		for i, s := range e.Steps {
			took := ""
			if d := stepTook(e, i); d > 0 {
				took = elapsed(d)
			}
			rows = append(rows, []string{"  " + elapsed(s.At.Sub(e.Steps[0].At)), stepOf(e, i), took})
		}
		table(&b, rows)
	}
	if text := pauseText(e); text != "" {
		sentence(&b, "    ", "  %s", text)
	}
	if e.Lost != nil {
		sentence(&b, "    ", "  lost: %s", e.Lost)
	}
	if a := e.SetAside; a != nil {
		to := "an end that is not known"
		if a.To != 0 {
			to = a.To.String()
		}
		sentence(&b, "    ", "  set aside: %s (%d bytes) of WAL that the cluster never had, from %s to %s, kept on %s in %s", bytes(a.Bytes), a.Bytes, a.From, to, e.Node, a.Path)
	}
	return b.String()
}
