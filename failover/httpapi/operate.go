package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type failoverJSON struct {
	To             pgcluster.NodeID `json:"to"`
	AcceptDataLoss bool             `json:"accept_data_loss"`
	Reason         string           `json:"reason"`
}

// failover is the one change that may lose what was acknowledged.
func (s *server) failover(a asked[failoverJSON]) (int, any, error) {
	if err := checkReason(a.in.Reason); err != nil {
		return 0, nil, err
	}
	if !a.in.AcceptDataLoss {
		return 0, nil, invalid("accept_data_loss", "must be true: failovers without loss happen by themselves")
	}
	action := named("failover with data loss accepted", "to", a.in.To)
	st, err := s.decide(a.Context(), a.entry(action, a.in.Reason), func(st failover.State, v failover.View) (failover.State, error) {
		return failover.ForceFailover(st, v, s.Policy, a.in.To, a.why(a.in.Reason))
	})
	return http.StatusAccepted, operationJSON{st.Op}, err
}

type restartJSON struct {
	Node   pgcluster.NodeID `json:"node"`
	Reason string           `json:"reason"`
}

func (s *server) restart(a asked[restartJSON]) (int, any, error) {
	if err := checkReason(a.in.Reason); err != nil {
		return 0, nil, err
	}
	action := named("restart", "of", cmp.Or(a.in.Node, "all nodes"))
	st, err := s.decide(a.Context(), a.entry(action, a.in.Reason), func(st failover.State, v failover.View) (failover.State, error) {
		return failover.Restart(st, v, s.Policy, a.in.Node, a.why(a.in.Reason))
	})
	return http.StatusAccepted, operationJSON{st.Op}, err
}

type pauseJSON struct {
	Seconds int64  `json:"seconds"`
	Reason  string `json:"reason"`
}

// pausedJSON is whether the cluster is paused.
type pausedJSON struct {
	Paused *failover.Pause `json:"paused,omitempty"`
}

// maxPause bounds a pause in one request; the rules have the last word.
const maxPause = 7 * 24 * 3600

func (s *server) pause(a asked[pauseJSON]) (int, any, error) {
	if err := checkReason(a.in.Reason); err != nil {
		return 0, nil, err
	}
	if a.in.Seconds < 1 || a.in.Seconds > maxPause {
		return 0, nil, invalid("seconds", fmt.Sprintf("want a number from 1 to %d", maxPause))
	}
	lasts := time.Duration(a.in.Seconds) * time.Second
	st, err := s.decide(a.Context(), a.entry(fmt.Sprintf("pause for %s", lasts), a.in.Reason), func(st failover.State, v failover.View) (failover.State, error) {
		until := v.Wall.Add(lasts) // by the leader's clock, as it will be ended
		return failover.SetPause(st, v, s.Policy, until, a.why(a.in.Reason))
	})
	return http.StatusOK, pausedJSON{st.Paused}, err
}

func (s *server) resume(a asked[reasonJSON]) (int, any, error) {
	if err := checkReason(a.in.Reason); err != nil {
		return 0, nil, err
	}
	st, err := s.decide(a.Context(), a.entry("resume", a.in.Reason), func(st failover.State, v failover.View) (failover.State, error) {
		return failover.Resume(st, v, s.Policy, a.why(a.in.Reason))
	})
	return http.StatusOK, pausedJSON{st.Paused}, err
}
