package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// configuration is what this node's PostgreSQL should be like, and what came of it.
type configuration struct {
	kick    chan struct{}
	writing sync.Mutex    // one writer of the files at a time
	undone  atomic.Uint64 // counts ALTER SYSTEMs that were taken back
	undoing atomic.Bool   // one was, perhaps, and PostgreSQL has not been told yet

	mu        sync.Mutex
	agreed    pgcluster.Config   // newest that is known; its maps and slices never change
	known     map[setting]string // what PostgreSQL has said about each; empty is yes
	refused   map[setting]string // what PostgreSQL does not take, and why
	launched  map[string]string  // with which the last server was started
	doubted   bool               // a start failed with settings that never served: they are left out
	floors    map[string]int     // that a standby needs
	overrides []override         // newest last
}

// setting is one assignment.
type setting struct{ name, value string }

func newConfiguration(s saved) *configuration {
	c := &configuration{kick: make(chan struct{}, 1), known: map[setting]string{}}
	if s.Config != nil {
		c.agreed = *s.Config
	}
	return c
}

// Configure makes c the members and the cluster-wide settings. It returns at once;
// the files follow, and Report.Config tells when. An older version than one that is
// known is ignored, and so is one without members, on which nobody has agreed yet.
// The caller does not change what c points to.
func (a *Agent) Configure(c pgcluster.Config) {
	a.conf.mu.Lock()
	known := a.conf.agreed
	if len(c.Members) == 0 || c.Version < known.Version || (c.Version == known.Version && c.Equal(known)) {
		a.conf.mu.Unlock()
		return
	}
	a.conf.agreed = c
	a.conf.doubted = a.conf.doubted && maps.Equal(c.Settings, known.Settings)
	a.conf.mu.Unlock()
	a.reconfigure()
}

// reconfigure has the files written again soon.
func (a *Agent) reconfigure() {
	select {
	case a.conf.kick <- struct{}{}:
	default: // it is on its way
	}
}

// keepConfig brings the files up to date with each new configuration until ctx ends.
func (a *Agent) keepConfig(ctx context.Context) {
	for {
		var again <-chan time.Time
		if err := a.configure(ctx); err != nil && ctx.Err() == nil {
			level := slog.LevelError
			if errors.Is(err, errUnconfirmed) {
				level = slog.LevelDebug // it starts, or hangs, which is reported
			}
			a.log.Log(ctx, level, "configuration not applied, will retry", "error", err)
			again = time.After(reviewInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.conf.kick:
		case <-again:
		}
	}
}

// members returns the members that are known now.
func (a *Agent) members() []pgcluster.Member {
	a.conf.mu.Lock()
	defer a.conf.mu.Unlock()
	if len(a.conf.agreed.Members) > 0 {
		return a.conf.agreed.Members
	}
	return a.o.Members
}

// member returns the member called id.
func (a *Agent) member(id pgcluster.NodeID) (pgcluster.Member, bool) {
	all := a.members()
	i := slices.IndexFunc(all, func(m pgcluster.Member) bool { return m.ID == id })
	if i < 0 {
		return pgcluster.Member{}, false
	}
	return all[i], true
}

// self returns this node. Its addresses are those that it was started with.
func (a *Agent) self() pgcluster.Member { return a.o.self() }
