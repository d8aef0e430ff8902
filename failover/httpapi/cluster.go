package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
}

type memberJSON struct {
	ID       pgcluster.NodeID `json:"id"`
	HTTP     string           `json:"http"`
	Postgres string           `json:"postgres"`
}

func (s *server) cluster(w http.ResponseWriter, _ *http.Request) error {
	st, _ := s.State()
	v := s.View()
	body := clusterJSON{Status: failover.Explain(st, v, s.Policy), Leader: s.Leader(), SeenBy: s.Self}
	body.Confirmed = s.confirmed(body.Leader, v)
	members := st.Members
	if len(members) == 0 {
		members = s.Members // nothing is agreed on yet
	}
	for _, m := range members {
		body.Members = append(body.Members, memberJSON{ID: m.ID, HTTP: m.HTTPAddr(), Postgres: m.PGAddr()})
	}
	return problem.WriteJSON(w, http.StatusOK, body)
}

// confirmed reports whether what this node knows of the agreed state is recent:
// it hears a leader, which is there to be asked.
func (s *server) confirmed(leader pgcluster.NodeID, v failover.View) bool {
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

type switchoverJSON struct {
	To     pgcluster.NodeID `json:"to"`
	Reason string           `json:"reason"`
}

const maxReason = 200

// forwardedHeader names the node that passed a request on; it is passed on once.
const forwardedHeader = "X-Xpd-Forwarded-By"

func (s *server) switchover(w http.ResponseWriter, r *http.Request) error {
	var in switchoverJSON
	if r.ContentLength != 0 { // nothing in it is required
		if err := problem.Decode(w, r, maxBody, &in); err != nil {
			return err
		}
	}
	if len(in.Reason) > maxReason {
		return invalid("reason", fmt.Sprintf("at most %d bytes", maxReason))
	}
	leader := s.Leader()
	if leader != s.Self && leader != "" && r.Header.Get(forwardedHeader) == "" {
		return s.forward(w, r, leader, in)
	}
	op, err := s.Switchover(r.Context(), in.To, in.Reason)
	if err != nil {
		return err
	}
	return problem.WriteJSON(w, http.StatusAccepted, struct {
		Operation failover.Operation `json:"operation"`
	}{op})
}

// forward passes a switchover on to the leader and answers with what the leader answers.
func (s *server) forward(w http.ResponseWriter, r *http.Request, leader pgcluster.NodeID, in switchoverJSON) error {
	m, known := failover.State{Members: s.Members}.Member(leader)
	if !known {
		return fmt.Errorf("leader %s has no address here: %w", leader, failover.ErrNotLeader)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("forward to %s: encode: %w", leader, err)
	}
	url := "http://" + m.HTTPAddr() + "/v1/cluster/switchover"
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("forward to %s: %w", leader, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(forwardedHeader, string(s.Self))
	resp, err := s.leaderHTTP.Do(req)
	if err != nil {
		s.Logger.WarnContext(r.Context(), "leader not reached", "leader", leader, "error", err)
		if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
			return kindNoLeader.problem(fmt.Sprintf("%s leads but cannot be reached; nothing was done", leader))
		}
		return fmt.Errorf("forward to %s: %w", leader, failover.ErrUncertain)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("forward to %s: read answer: %w: %w", leader, failover.ErrUncertain, err)
	}
	for _, name := range []string{"Content-Type", "Retry-After"} {
		if v := resp.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer) // the client has gone: nobody is left to tell
	return nil
}
