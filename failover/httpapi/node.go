package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

// maxWait bounds how long a question for a newer report stays open.
const maxWait = time.Second

func (s *server) report(w http.ResponseWriter, r *http.Request) error {
	after, err := number(r, "after", 1<<63)
	if err != nil {
		return err
	}
	wait, err := number(r, "wait_ms", uint64(maxWait/time.Millisecond))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(wait)*time.Millisecond) //nolint:gosec // at most maxWait
	defer cancel()
	return problem.WriteJSON(w, http.StatusOK, s.Agent.Changed(ctx, after))
}

// identity says who this node is, also to a cluster that it does not belong to yet.
func (s *server) identity(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), maxWait)
	defer cancel()
	report := s.Agent.Changed(ctx, 0)
	for report.Role == "" && ctx.Err() == nil { // it has not looked at its data directory yet
		report = s.Agent.Changed(ctx, report.Seq)
	}
	if report.Role == "" {
		return kindUnavailable.problem("the agent has not looked at its data directory yet")
	}
	st, index := s.State()
	who := pgcluster.Identity{
		Node: s.Self, SystemID: report.SystemID, Role: report.Role, Cluster: st.SystemID, Applied: index,
	}
	for _, m := range st.Members {
		who.Members = append(who.Members, m.ID)
	}
	return problem.WriteJSON(w, http.StatusOK, who)
}

func (s *server) order(w http.ResponseWriter, r *http.Request) error {
	var o pgcluster.Order
	// Unknown fields are refused: an order half understood is not carried out.
	if err := problem.Decode(w, r, maxBody, &o); err != nil {
		return err
	}
	if o.Node != s.Self {
		return invalid("node", fmt.Sprintf("this is %s", s.Self))
	}
	err := s.Agent.Submit(r.Context(), o)
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
		return nil
	case errors.Is(err, pgcluster.ErrStaleOrder), errors.Is(err, pgcluster.ErrWrongSystem), r.Context().Err() != nil:
		return err
	}
	return kindOrderFailed.problem(err.Error()) // shown: only nodes get here
}

// number reads a query parameter from 0, which is what a missing one is, to limit.
func number(r *http.Request, name string, limit uint64) (uint64, error) {
	raw := r.URL.Query().Get(name)
	if raw == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(raw, 10, 64)
	if err != nil || n > limit {
		return 0, invalid(name, fmt.Sprintf("want a number from 0 to %d", limit))
	}
	return n, nil
}
