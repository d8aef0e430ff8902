package httpapi

import (
	"net/http"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/problem"
)

// nodeView answers from memory what this node sees, and what it finds wrong.
func (s *server) nodeView(w http.ResponseWriter, _ *http.Request) error {
	st, _ := s.State()
	st.Members = s.members(st)
	v := s.View()
	g := failover.Group{Leader: s.Leader(), Servers: s.Servers()}
	g.Confirmed = s.confirmed(g.Leader, v)
	return problem.WriteJSON(w, http.StatusOK, failover.Look(s.Self, st, v, s.Policy, g, s.Lost()))
}
