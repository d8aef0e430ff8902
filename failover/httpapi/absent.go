package httpapi

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

// absentJSON is what the cluster does without a node for, if it does.
type absentJSON struct {
	Node   pgcluster.NodeID  `json:"node"`
	Absent *failover.Absence `json:"absent,omitempty"`
}

func absenceOf(st failover.State, id pgcluster.NodeID) absentJSON {
	out := absentJSON{Node: id}
	if a, ok := st.Absent[id]; ok {
		out.Absent = &a
	}
	return out
}

func (s *server) beginMaintenance(a asked[pauseJSON]) (int, any, error) {
	id := memberID(a.Request)
	if a.in.Seconds < 1 || a.in.Seconds > maxPause {
		return 0, nil, invalid("seconds", fmt.Sprintf("want a number from 1 to %d", maxPause))
	}
	lasts := time.Duration(a.in.Seconds) * time.Second
	return s.leaveOut(a.Request, a.who, a.in.Reason, fmt.Sprintf("maintenance of %s for %s", id, lasts),
		func(st failover.State, v failover.View) (failover.State, error) {
			until := v.Wall.Add(lasts) // by the leader's clock, as it will be ended
			return failover.SetMaintenance(st, v, s.Policy, id, until, a.why(a.in.Reason))
		})
}

func (s *server) endMaintenance(a asked[reasonJSON]) (int, any, error) {
	id := memberID(a.Request)
	return s.leaveOut(a.Request, a.who, a.in.Reason, fmt.Sprintf("end of the maintenance of %s", id),
		func(st failover.State, v failover.View) (failover.State, error) {
			return failover.EndMaintenance(st, v, s.Policy, id, a.why(a.in.Reason))
		})
}

func (s *server) fence(a asked[reasonJSON]) (int, any, error) {
	id := memberID(a.Request)
	return s.leaveOut(a.Request, a.who, a.in.Reason, fmt.Sprintf("fence %s", id),
		func(st failover.State, v failover.View) (failover.State, error) {
			return failover.Fence(st, v, s.Policy, id, a.why(a.in.Reason))
		})
}

func (s *server) unfence(a asked[reasonJSON]) (int, any, error) {
	id := memberID(a.Request)
	return s.leaveOut(a.Request, a.who, a.in.Reason, fmt.Sprintf("unfence %s", id),
		func(st failover.State, v failover.View) (failover.State, error) {
			return failover.Unfence(st, v, s.Policy, id, a.why(a.in.Reason))
		})
}

type recloneJSON struct {
	Discard bool   `json:"discard"` // delete what is there before the copy is made
	Reason  string `json:"reason"`
}

func (s *server) reclone(a asked[recloneJSON]) (int, any, error) {
	id, action := memberID(a.Request), "reclone "
	if a.in.Discard {
		action = "reclone, and discard the data of, "
	}
	return s.leaveOut(a.Request, a.who, a.in.Reason, action+string(id),
		func(st failover.State, v failover.View) (failover.State, error) {
			return failover.Reclone(st, v, s.Policy, id, a.in.Discard, a.why(a.in.Reason))
		})
}

func (s *server) cancelReclone(a asked[reasonJSON]) (int, any, error) {
	id := memberID(a.Request)
	return s.leaveOut(a.Request, a.who, a.in.Reason, fmt.Sprintf("cancel the reclone of %s", id),
		func(st failover.State, v failover.View) (failover.State, error) {
			return failover.CancelReclone(st, v, s.Policy, id, a.why(a.in.Reason))
		})
}

// leaveOut changes whether the cluster does without the node in the request's path.
func (s *server) leaveOut(r *http.Request, who failover.Asker, reason, action string, f rule) (int, any, error) {
	if err := checkReason(reason); err != nil {
		return 0, nil, err
	}
	st, err := s.decide(r.Context(), failover.AuditEntry{Asker: who, Action: action, Reason: reason}, f)
	return http.StatusOK, absenceOf(st, memberID(r)), err
}

// reclonePlanJSON is a plan by what one node sees.
type reclonePlanJSON struct {
	failover.ReclonePlan

	SeenBy    pgcluster.NodeID `json:"seen_by"`
	Confirmed bool             `json:"confirmed"` // this node is in touch with a leader
}

// planReclone says what a reclone would do, and does nothing. What would be refused is an
// answer, too.
func (s *server) planReclone(w http.ResponseWriter, r *http.Request) error {
	discard := false
	if raw := r.URL.Query().Get("discard"); raw != "" {
		var err error
		if discard, err = strconv.ParseBool(raw); err != nil {
			return invalid("discard", "want true or false")
		}
	}
	st, _ := s.State()
	v := s.View()
	return problem.WriteJSON(w, http.StatusOK, reclonePlanJSON{
		failover.PlanReclone(st, v, s.Policy, memberID(r), discard), s.Self, s.confirmed(s.Leader(), v),
	})
}
