package fence

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// Options is what a helper is made of. All fields but Watchdog are required.
type Options struct {
	Beats    io.Reader // what xpd says; its end is the end of xpd
	PIDFile  string
	Watchdog string               // device that resets the host unless it is written to
	Now      func() time.Duration // by CLOCK_BOOTTIME
	Logger   *slog.Logger
}

const (
	tick  = 100 * time.Millisecond
	slept = 500 * time.Millisecond // a tick that late means that this process did not run
)

// helper is the state of the loop of Run.
type helper struct {
	o        Options
	beat     Beat
	heard    time.Duration
	awake    time.Duration
	last     time.Duration // when the loop ran last
	gone     bool          // xpd has ended
	closed   bool          // PostgreSQL was closed, and nobody has spoken since
	stuck    bool          // PostgreSQL cannot be closed
	watchdog watchdog
	runs     func(data string) bool  // running
	shutDown func(data string) error // of that name
}

// Run guards until ctx ends, or neither xpd nor PostgreSQL is left. It closes nothing
// when ctx ends: who ends the helper takes over.
func Run(ctx context.Context, o Options) error {
	unlock, err := lock(o.PIDFile)
	if err != nil {
		return err
	}
	defer unlock()
	spareFromOOM()
	beats := make(chan Beat, 16)
	go read(o.Beats, beats) // ends with its reader, or with this process
	now := o.Now()
	h := &helper{
		o: o, heard: now, awake: now, last: now, watchdog: watchdog{path: o.Watchdog, logger: o.Logger},
		runs: running, shutDown: shutDown,
	}
	defer h.watchdog.disarm()
	o.Logger.InfoContext(ctx, "guarding")
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			o.Logger.InfoContext(ctx, "replaced or asked to end: closing nothing")
			return nil
		case b, speaks := <-beats:
			if !speaks {
				beats = nil
				h.gone = true
				o.Logger.InfoContext(ctx, "xpd has ended", "fenced", h.beat.Fenced, "lease_left", h.beat.Until-o.Now())
				continue
			}
			h.beat, h.heard, h.closed, h.stuck = b, o.Now(), false, false
		case <-ticker.C:
			// What is there to be read is read first.
			if len(beats) > 0 {
				continue
			}
			if h.step(ctx) {
				return nil
			}
		}
	}
}

// read passes beats on until their end.
func read(r io.Reader, to chan<- Beat) {
	defer close(to)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var b Beat
		if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
			return // another version of xpd: it replaces this helper
		}
		to <- b
	}
}

// step looks and acts, and reports whether nothing is left to guard.
func (h *helper) step(ctx context.Context) (done bool) {
	now := h.o.Now()
	if h.due(now) {
		if h.runs(h.beat.Data) {
			h.shut(ctx)
			h.last = h.o.Now()
		} else if h.stuck {
			h.closed, h.stuck = true, false // it has died after all, between two tries
		}
	}
	switch {
	case h.stuck:
		// The watchdog, if there is one, is what remains.
	case h.beat.Primary && !h.closed:
		h.watchdog.pet(now)
	default:
		h.watchdog.disarm()
	}
	return h.gone && !h.runs(h.beat.Data)
}

// due reports whether PostgreSQL is to be closed now, if it runs. A tick that comes late
// shows that this process did not run, and nor may xpd have.
func (h *helper) due(now time.Duration) bool {
	if now-h.last > slept {
		h.awake = now
	}
	h.last = now
	return !h.closed && h.beat.Due(now, h.heard, h.awake)
}

// shut closes PostgreSQL. The watchdog waits for the first try only: what a try cannot
// close, a reset of the host must.
func (h *helper) shut(ctx context.Context) {
	if !h.stuck {
		h.o.Logger.WarnContext(ctx, "xpd is dead or hangs and its lease is over: closing PostgreSQL",
			"dead", h.gone, "silent_for", h.o.Now()-h.heard, "data", h.beat.Data)
		h.watchdog.pet(h.o.Now())
	}
	if err := h.shutDown(h.beat.Data); err != nil {
		if !h.stuck {
			h.o.Logger.ErrorContext(ctx, "PostgreSQL not closed, will try again", "error", err)
		}
		h.stuck = true
		return
	}
	h.closed, h.stuck = true, false
	h.o.Logger.WarnContext(ctx, "PostgreSQL is closed")
}

// spareFromOOM makes the kernel prefer others when memory runs out, if it may.
func spareFromOOM() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0) // only root may
}

// encode makes a line of a beat.
func (b Beat) encode() ([]byte, error) {
	line, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode beat: %w", err)
	}
	return append(line, '\n'), nil
}
