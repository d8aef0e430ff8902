package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

// settingsJSON is what people have chosen for the whole cluster.
type settingsJSON struct {
	Mode     failover.Mode     `json:"mode"`
	K        int               `json:"k"` // 0: half of the nodes
	Postgres map[string]string `json:"postgres"`
	Version  uint64            `json:"version"`

	KInForce int              `json:"k_in_force"` // what commits wait for now
	KWanted  int              `json:"k_wanted"`   // what K comes to
	Nodes    []nodeConfigJSON `json:"nodes"`      // that have PostgreSQL, as this node sees them
}

// nodeConfigJSON is how far the settings have got on a node.
type nodeConfigJSON struct {
	Node    pgcluster.NodeID `json:"node"`
	Silent  bool             `json:"silent,omitempty"` // the rest may be out of date
	Version uint64           `json:"version"`          // that its PostgreSQL has loaded
	Pending []string         `json:"pending_restart,omitempty"`
	Refused []string         `json:"refused,omitempty"` // NAME=VALUE: and why
}

func (s *server) settingsOf(st failover.State) settingsJSON {
	out := settingsJSON{
		Mode: st.Settings.Mode, K: st.Settings.K, Postgres: st.Settings.Postgres, Version: st.Settings.Version,
		KInForce: st.Sync.Durable.K, KWanted: st.K(), Nodes: []nodeConfigJSON{},
	}
	v := s.View()
	for _, m := range st.Members {
		if !m.Data() {
			continue
		}
		o, seen := v.Reports[m.ID]
		out.Nodes = append(out.Nodes, nodeConfigJSON{
			Node: m.ID, Silent: !seen || v.Now-o.At >= s.Policy.Silence,
			Version: o.Report.Config, Pending: o.Report.Pending, Refused: o.Report.Refused,
		})
	}
	if out.Mode == "" {
		out.Mode = failover.ModeProtect
	}
	if out.Postgres == nil {
		out.Postgres = map[string]string{}
	}
	return out
}

func (s *server) settings(w http.ResponseWriter, _ *http.Request) error {
	st, _ := s.State()
	return problem.WriteJSON(w, http.StatusOK, s.settingsOf(st))
}

// settingsChange changes what it names and leaves the rest.
type settingsChange struct {
	Mode     *failover.Mode     `json:"mode"`
	K        *int               `json:"k"`
	Postgres map[string]*string `json:"postgres"` // nil: not set any more
	Reason   string             `json:"reason"`
}

func (s *server) changeSettings(a asked[settingsChange]) (int, any, error) {
	if err := checkReason(a.in.Reason); err != nil {
		return 0, nil, err
	}
	why := func(changes string) string {
		if a.in.Reason == "" && a.who.String() == "" {
			return changes
		}
		return fmt.Sprintf("%s: %s", changes, a.why(a.in.Reason))
	}
	st, err := s.decide(a.Context(), a.entry("settings "+a.in.String(), a.in.Reason), explained(why, func(st failover.State, v failover.View) (failover.State, error) {
		next := a.in.applied(st.Settings)
		return failover.Configure(st, v, s.Policy, next.Mode, next.K, next.Postgres)
	}))
	return http.StatusOK, s.settingsOf(st), err
}

// String lists what is changed, in a line.
func (c settingsChange) String() string {
	var out []string
	if c.Mode != nil {
		out = append(out, "mode="+string(*c.Mode))
	}
	if c.K != nil {
		out = append(out, fmt.Sprintf("k=%d", *c.K))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Postgres)) {
		value := ""
		if v := c.Postgres[name]; v != nil {
			value = *v
		}
		out = append(out, fmt.Sprintf("%s=%q", name, value))
	}
	return strings.Join(out, " ")
}

func (c settingsChange) applied(to failover.Settings) failover.Settings {
	if c.Mode != nil {
		to.Mode = *c.Mode
	}
	if c.K != nil {
		to.K = *c.K
	}
	to.Postgres = maps.Clone(to.Postgres)
	for name, value := range c.Postgres {
		switch {
		case value == nil:
			delete(to.Postgres, name)
		case to.Postgres == nil:
			to.Postgres = map[string]string{name: *value}
		default:
			to.Postgres[name] = *value
		}
	}
	return to
}
