package raftstore

import (
	"sync"
	"time"
)

const (
	touchEvery = 250 * time.Millisecond
	longBreak  = 10 * time.Second // without a leader; elections take less
)

// touch knows how long this node has heard a leader, and for how long it had not heard
// one before. What was before this process is not known, and counts for nothing.
type touch struct {
	mu     sync.Mutex
	since  time.Time     // when a leader was heard first after the last long break
	before time.Duration // how long that break was; 0 if there was none
	heard  time.Time     // when a leader was heard last
}

func (t *touch) see(now time.Time, leader bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !leader {
		return
	}
	switch without := now.Sub(t.heard); {
	case t.heard.IsZero():
		t.since = now
	case without >= longBreak:
		t.since, t.before = now, without
	}
	t.heard = now
}

// at returns for how long a leader has been heard, but for short breaks, and for how long
// none was before that; zeros while none is.
func (t *touch) at(now time.Time) (leader, before time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.heard.IsZero() || now.Sub(t.heard) >= longBreak {
		return 0, 0
	}
	return now.Sub(t.since), t.before
}

// Touch returns for how long this node has heard a leader, but for short breaks, and for
// how long it had heard none before that: 0 if it always did since it was started.
func (s *Store) Touch() (leader, before time.Duration) { return s.touch.at(time.Now()) }
