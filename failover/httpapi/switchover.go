package httpapi

import (
	"net/http"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type switchoverJSON struct {
	To     pgcluster.NodeID `json:"to"`
	Reason string           `json:"reason"`
}

func (s *server) switchover(a asked[switchoverJSON]) (int, any, error) {
	if err := checkReason(a.in.Reason); err != nil {
		return 0, nil, err
	}
	st, err := s.decide(a.Context(), a.entry(named("switchover", "to", a.in.To), a.in.Reason), func(st failover.State, v failover.View) (failover.State, error) {
		return failover.Switchover(st, v, s.Policy, a.in.To, a.why(a.in.Reason))
	})
	return http.StatusAccepted, operationJSON{st.Op}, err
}
