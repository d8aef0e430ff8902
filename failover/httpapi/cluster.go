package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

// clusterJSON is the status as one node sees it.
type clusterJSON struct {
	failover.Status
	Leader    pgcluster.NodeID `json:"leader,omitempty"`
	SeenBy    pgcluster.NodeID `json:"seen_by"`
	Confirmed bool             `json:"confirmed"` // this node is in touch with a leader
	Members   []memberJSON     `json:"members"`

	// PostgresTLS says that PostgreSQL lets nobody in over TCP without, unless a rule of an
	// adopted one does for roles that are not xpd's.
	PostgresTLS bool `json:"postgres_tls"`
}

type memberJSON struct {
	ID       pgcluster.NodeID `json:"id"`
	HTTP     string           `json:"http"`
	Postgres string           `json:"postgres,omitempty"`
	Raft     string           `json:"raft"`
	Voter    bool             `json:"voter"` // in Raft, as far as this node knows

	Witness    bool   `json:"witness,omitempty"`
	Zone       string `json:"zone,omitempty"`
	Priority   int    `json:"priority,omitempty"`
	NoFailover bool   `json:"nofailover,omitempty"`
	NoSync     bool   `json:"nosync,omitempty"`
	Leaving    bool   `json:"leaving,omitempty"`
}

func (s *server) cluster(w http.ResponseWriter, _ *http.Request) error {
	st, _ := s.State()
	v := s.View()
	body := clusterJSON{Status: failover.Explain(st, v, s.Policy), Leader: s.Leader(), SeenBy: s.Self, PostgresTLS: s.Secure}
	body.Confirmed = s.confirmed(body.Leader, v)
	servers := s.Servers()
	for _, m := range s.members(st) {
		body.Members = append(body.Members, describe(m, servers))
	}
	return problem.WriteJSON(w, http.StatusOK, body)
}

// members returns the agreed members or, before there are any, the first ones.
func (s *server) members(st failover.State) []pgcluster.Member {
	if len(st.Members) > 0 {
		return st.Members
	}
	return s.Members
}

func describe(m pgcluster.Member, servers []failover.Server) memberJSON {
	out := memberJSON{
		ID: m.ID, HTTP: m.HTTPAddr(), Raft: m.RaftAddr(), Witness: m.Witness, Zone: m.Zone, Priority: m.Priority,
		NoFailover: m.NoFailover, NoSync: m.NoSync, Leaving: m.Leaving,
	}
	if m.Data() {
		out.Postgres = m.PGAddr()
	}
	out.Voter = slices.ContainsFunc(servers, func(v failover.Server) bool { return v.ID == m.ID && v.Voter })
	return out
}

// confirmed reports whether what this node knows of the agreed state is recent:
// it hears a leader, which is there to be asked, and no primary is open in an epoch that
// this node has not heard of: with its disk full it takes nothing down any more.
func (s *server) confirmed(leader pgcluster.NodeID, v failover.View) bool {
	st, _ := s.State()
	for _, o := range v.Reports {
		if o.Report.Open > st.Primary.Epoch {
			return false
		}
	}
	o, seen := v.Reports[leader]
	return seen && v.Now-o.At < s.Policy.Silence
}

// Bounds of how much history is answered.
const (
	defaultHistory = 50
	maxHistory     = 200
)

func (s *server) history(w http.ResponseWriter, r *http.Request) error {
	limit := defaultHistory
	if raw := r.URL.Query().Get("limit"); raw != "" {
		n, err := strconv.Atoi(raw)
		if err != nil || n < 1 || n > maxHistory {
			return invalid("limit", fmt.Sprintf("want a number from 1 to %d", maxHistory))
		}
		limit = n
	}
	st, _ := s.State()
	events := st.History[max(0, len(st.History)-limit):]
	if events == nil {
		events = []failover.Event{}
	}
	return problem.WriteJSON(w, http.StatusOK, struct {
		Events []failover.Event `json:"events"` // oldest first
	}{events})
}
