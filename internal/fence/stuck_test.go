package fence

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// bench is a helper without processes: a primary whose xpd is dead, a clock, and a file for
// a watchdog.
type bench struct {
	*helper

	now     time.Duration
	runs    bool  // PostgreSQL
	tries   int   // to close it
	outcome error // of a try
	device  string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{now: time.Minute, runs: true, device: filepath.Join(t.TempDir(), "watchdog")}
	if err := os.WriteFile(b.device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	b.helper = &helper{
		o:    Options{Now: func() time.Duration { return b.now }, Logger: logger},
		beat: Beat{Primary: true, Fenced: true, Until: b.now}, heard: b.now, awake: b.now, last: b.now,
		watchdog: watchdog{path: b.device, logger: logger},
		runs:     func(string) bool { return b.runs },
		shutDown: func(string) error {
			b.tries++
			b.now += fastStop + immediateStop + kill
			b.runs = b.outcome != nil
			return b.outcome
		},
	}
	return b
}

// pass lets ticks pass until the helper has tried so often.
func (b *bench) pass(t *testing.T, tries int) {
	t.Helper()
	for range 100 {
		if b.tries >= tries {
			return
		}
		b.now += tick
		b.step(t.Context())
	}
	t.Fatalf("%d tries to close PostgreSQL, want %d", b.tries, tries)
}

// fed returns how often the watchdog was written to since it was armed.
func (b *bench) fed(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(b.device)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

// What survives SIGKILL is for the watchdog to end, however often the helper tries again.
func TestHelper_starvesTheWatchdogOfAStuckServer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.outcome = errors.New("it survives SIGKILL")
	b.pass(t, 1)
	fed := b.fed(t)
	if fed == 0 || b.watchdog.f == nil {
		t.Fatal("the watchdog is not armed")
	}
	b.pass(t, 6)
	if got := b.fed(t); got != fed || b.watchdog.f == nil {
		t.Errorf("the watchdog was fed %d times after the first try failed", got-fed)
	}

	b.outcome = nil
	b.pass(t, 7)
	if b.stuck || b.watchdog.f != nil {
		t.Error("the watchdog is not disarmed though PostgreSQL is closed")
	}

	// xpd speaks again, and has another primary.
	b.runs, b.beat.Until, b.closed = true, b.now+time.Hour, false
	b.step(t.Context())
	if b.watchdog.f == nil {
		t.Error("the watchdog is not armed for the next primary")
	}
}

// A server that was stuck may die between two tries.
func TestHelper_disarmsOnceAStuckServerDies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.outcome = errors.New("it survives SIGKILL")
	b.pass(t, 2)
	b.runs = false
	for range 20 {
		b.now += tick
		b.step(t.Context())
	}
	if b.watchdog.f != nil {
		t.Error("the watchdog resets a host without PostgreSQL")
	}
}
