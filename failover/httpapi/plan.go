package httpapi

import (
	"net/http"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

// planJSON is a plan by what one node sees.
type planJSON struct {
	failover.Plan
	SeenBy    pgcluster.NodeID `json:"seen_by"`
	Confirmed bool             `json:"confirmed"` // this node is in touch with a leader
}

// plan says what a change of primary would do, and does nothing. What would be refused
// is an answer, too.
func (s *server) plan(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	st, _ := s.State()
	v := s.View()
	to := pgcluster.NodeID(q.Get("to"))
	if to != "" {
		if _, err := pgcluster.ParseNodeID(string(to)); err != nil {
			return invalid("to", err.Error())
		}
	}
	body := planJSON{SeenBy: s.Self, Confirmed: s.confirmed(s.Leader(), v)}
	switch kind := failover.Kind(q.Get("kind")); kind { //nolint:exhaustive // the others happen by themselves
	case failover.KindFailover:
		body.Plan = failover.PlanFailover(st, v, s.Policy, to)
	case failover.KindSwitchover:
		body.Plan = failover.PlanSwitchover(st, v, s.Policy, to)
	default:
		return invalid("kind", "want failover or switchover")
	}
	return problem.WriteJSON(w, http.StatusOK, body)
}
