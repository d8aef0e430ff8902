package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

// decide has the leader change the agreed state by f, with the line of the audit trail in
// the same entry of Raft. What the rules refuse is logged, and remembered for a while.
func (s *server) decide(ctx context.Context, e failover.AuditEntry, f rule) (failover.State, error) {
	st, err := s.Change(ctx, func(st failover.State, v failover.View) (failover.State, error) {
		next, err := f(st, v)
		if err != nil {
			return next, err
		}
		return failover.WithAudit(st, next, v, e), nil
	})
	if refused, ok := errors.AsType[*failover.RefusedError](err); ok {
		s.refuse(ctx, e, refused.Reason)
	}
	return st, err
}

// entry is the line of the audit trail for a change that is asked for.
func (a asked[T]) entry(action, reason string) failover.AuditEntry {
	return failover.AuditEntry{Asker: a.who, Action: action, Reason: reason}
}

// refuse keeps what somebody asked for and did not have.
func (s *server) refuse(ctx context.Context, e failover.AuditEntry, why string) {
	st, _ := s.State()
	e.At, e.Epoch, e.Refused = time.Now().UTC(), st.Primary.Epoch, why
	s.refusals.add(e)
	s.Logger.WarnContext(ctx, "change refused", "action", e.Action, "reason", e.Reason, "refused", why,
		"name", e.Name, "operator", e.Operator, "from", e.From)
}

// maxRefusals bounds what a node remembers; the log has them all.
const maxRefusals = 100

// refusals are the last changes that this node refused. They are not agreed on: whoever is
// refused must not be able to fill Raft's log.
type refusals struct {
	mu   sync.Mutex
	last []failover.AuditEntry
}

func (r *refusals) add(e failover.AuditEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) == maxRefusals {
		r.last = slices.Delete(r.last, 0, 1)
	}
	r.last = append(r.last, e)
}

func (r *refusals) list() []failover.AuditEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.last)
}

type auditJSON struct {
	Entries []failover.AuditEntry `json:"entries"` // oldest first
	SeenBy  pgcluster.NodeID      `json:"seen_by"` // whose refusals are among them
}

// audit lists what people asked for: what was done, as agreed on, and what this node has
// refused since it started.
func (s *server) audit(w http.ResponseWriter, r *http.Request) error {
	limit, err := number(r, "limit", maxHistory)
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = defaultHistory
	}
	st, _ := s.State()
	all := append(s.refusals.list(), st.Audit...)
	slices.SortStableFunc(all, func(a, b failover.AuditEntry) int { return a.At.Compare(b.At) })
	all = all[max(0, len(all)-int(limit)):]
	if all == nil {
		all = []failover.AuditEntry{}
	}
	return problem.WriteJSON(w, http.StatusOK, auditJSON{all, s.Self})
}

// named is an action with the node that it is about, if it is about one.
func named(action, preposition string, id pgcluster.NodeID) string {
	if id == "" {
		return action
	}
	return fmt.Sprintf("%s %s %s", action, preposition, id)
}
