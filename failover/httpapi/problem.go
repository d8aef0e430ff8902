package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

// kind is one sort of trouble that these routes report, next to those of package
// problem. Package client knows some of them by their type URI.
type kind uint8

const (
	kindRefused kind = iota + 1
	kindStaleOrder
	kindWrongSystem
	kindOrderFailed
	kindNoLeader
	kindUncertain
	kindUnavailable
	kindEnd // not a kind: bounds the list for tests
)

func (k kind) describe() problem.Kind {
	var d problem.Kind
	switch k {
	case kindRefused:
		d.Slug, d.Title, d.Status = "refused", "The state of the cluster forbids it", http.StatusConflict
	case kindStaleOrder:
		d.Slug, d.Title, d.Status = "stale-order", "The node has pledged to a newer order", http.StatusConflict
	case kindWrongSystem:
		d.Slug, d.Title, d.Status = "wrong-system", "The node's data belongs to another cluster", http.StatusConflict
	case kindOrderFailed:
		d.Slug, d.Title, d.Status = "order-failed", "The agent could not accept the order", http.StatusInternalServerError
	case kindNoLeader:
		d.Slug, d.Title, d.Status = "no-leader", "No node leads the cluster right now", http.StatusServiceUnavailable
	case kindUncertain:
		d.Slug, d.Title, d.Status = "uncertain", "It may have been done or not", http.StatusGatewayTimeout
	case kindUnavailable:
		d.Slug, d.Title, d.Status = "unavailable", "The node did not answer in time", http.StatusServiceUnavailable
	case kindEnd:
		return problem.Internal()
	}
	return d
}

func (k kind) problem(detail string) *problem.Problem {
	return &problem.Problem{Kind: k.describe(), Detail: detail}
}

func invalid(field, detail string) *problem.Problem {
	return &problem.Problem{Kind: problem.Invalid(), Detail: detail, Field: field}
}

// classify is the one table from errors to HTTP. It returns nil for what it does
// not know.
func classify(err error) *problem.Problem {
	if e, ok := errors.AsType[*failover.RefusedError](err); ok {
		return kindRefused.problem(e.Reason)
	}
	switch {
	case errors.Is(err, failover.ErrNotLeader):
		return kindNoLeader.problem("nothing was done; try again")
	case errors.Is(err, failover.ErrUncertain):
		return kindUncertain.problem("look at the status before trying again")
	case errors.Is(err, pgcluster.ErrStaleOrder):
		return kindStaleOrder.problem(err.Error())
	case errors.Is(err, pgcluster.ErrWrongSystem):
		return kindWrongSystem.problem(err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return kindUnavailable.problem("sending it again is safe")
	}
	return nil
}

// handler answers a request, or returns an error before it has written anything.
type handler func(http.ResponseWriter, *http.Request) error

func (s *server) handle(h handler) http.HandlerFunc { return problem.Handle(s.Logger, classify, h) }
