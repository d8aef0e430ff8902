package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/xpd-platform/xpd/pgcluster"
)

// saved is what the agent must not forget. Every change is durable before the
// agent acts on it or tells anybody.
type saved struct {
	Pledged   pgcluster.Stamp `json:"pledged"`
	Led       uint64          `json:"led"`
	Followed  uint64          `json:"followed"`
	Recruited uint64          `json:"recruited"`
	Barrier   uint64          `json:"barrier"`
	BarrierAt pgcluster.LSN   `json:"barrier_at"`
	Open      uint64          `json:"open"`
	Restarted uint64          `json:"restarted"` // last restart order that was carried out
	Cloned    uint64          `json:"cloned"`    // last clone that was asked for, and made or taken back
	Promoting bool            `json:"promoting"` // pg_promote was asked for and has not been seen to end
	Settings  settings        `json:"settings"`

	// What these point to never changes; they are replaced.
	Config  *pgcluster.Config  `json:"config,omitempty"`  // the newest that the cluster agreed on
	Proven  *map[string]string `json:"proven,omitempty"`  // chosen settings with which a server has served
	Adopted *adopted           `json:"adopted,omitempty"` // what was taken over from a server that others had set up
}

// stateFile keeps saved in agent.json. It is safe for concurrent use.
type stateFile struct {
	path string

	writing sync.Mutex // one update at a time; a slow disk must not hold up get
	mu      sync.Mutex
	cur     saved
}

func loadState(path string) (*stateFile, error) {
	f := &stateFile{path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		f.cur.Settings = detached()
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read agent state: %w", err)
	}
	if err := json.Unmarshal(b, &f.cur); err != nil {
		return nil, fmt.Errorf("read agent state %s: %w", path, err)
	}
	return f, nil
}

func (f *stateFile) get() saved {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cur
}

// update makes a change durable and returns the new state. The change may be
// refused by returning an error, which update returns as it is. Even a change of
// nothing but the index of a stamp is written: a stamp that was acted on and then
// forgotten would let an older order of the same leader in after a power cut.
func (f *stateFile) update(change func(*saved) error) (saved, error) {
	f.writing.Lock()
	defer f.writing.Unlock()
	old := f.get()
	next := old
	if err := change(&next); err != nil {
		return old, err
	}
	if next == old {
		return old, nil
	}
	b, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return old, fmt.Errorf("save agent state: %w", err)
	}
	if err := (owner{}).replaceDurably(f.path, append(b, '\n')); err != nil {
		return old, fmt.Errorf("save agent state: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cur = next
	return next, nil
}
