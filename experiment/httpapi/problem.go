package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/problem"
)

// kind is one sort of trouble that the API reports, next to those of package
// problem. docs/api.md lists them all.
type kind uint8

const (
	kindBadIfMatch kind = iota + 1
	kindNoRoute
	kindNotFound
	kindMethod
	kindExists
	kindTransition
	kindSlotsTaken
	kindStaleETag
	kindIfMatchMissing
	kindOverloaded
	kindUnavailable
	kindEnd // not a kind: bounds the list for tests
)

func (k kind) describe() problem.Kind {
	var d problem.Kind
	switch k {
	case kindBadIfMatch:
		d.Slug, d.Title, d.Status = "bad-if-match", "If-Match is not one entity tag", http.StatusBadRequest
	case kindNoRoute:
		d.Slug, d.Title, d.Status = "no-route", "Nothing is served at this path", http.StatusNotFound
	case kindNotFound:
		d.Slug, d.Title, d.Status = "not-found", "It does not exist", http.StatusNotFound
	case kindMethod:
		d.Slug, d.Title, d.Status = "method-not-allowed", "The path does not take this method", http.StatusMethodNotAllowed
	case kindExists:
		d.Slug, d.Title, d.Status = "exists", "The key is taken by something else", http.StatusConflict
	case kindTransition:
		d.Slug, d.Title, d.Status = "bad-transition", "The state does not allow this step", http.StatusConflict
	case kindSlotsTaken:
		d.Slug, d.Title, d.Status = "slots-taken", "Another experiment of the layer owns the slots", http.StatusConflict
	case kindStaleETag:
		d.Slug, d.Title, d.Status = "stale-etag", "It was changed since it was read", http.StatusPreconditionFailed
	case kindIfMatchMissing:
		d.Slug, d.Title, d.Status = "if-match-missing", "The change needs an If-Match header", http.StatusPreconditionRequired
	case kindOverloaded:
		d.Slug, d.Title, d.Status = "overloaded", "Too many requests are waiting", http.StatusServiceUnavailable
	case kindUnavailable:
		d.Slug, d.Title, d.Status = "unavailable", "The database did not answer in time", http.StatusServiceUnavailable
	case kindEnd:
		return problem.Internal()
	}
	return d
}

func (k kind) problem(detail, field string) *problem.Problem {
	return &problem.Problem{Kind: k.describe(), Detail: detail, Field: field}
}

// invalid reports a value of a field that can never be accepted.
func invalid(field, format string, args ...any) error {
	return &experiment.InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Classify is the one table from the domain's errors to HTTP, for problem.Handle.
// It returns nil for what it does not know.
func Classify(err error) *problem.Problem {
	if e, ok := errors.AsType[*experiment.InvalidError](err); ok {
		return &problem.Problem{Kind: problem.Invalid(), Detail: e.Reason, Field: e.Field}
	}
	if e, ok := errors.AsType[*experiment.TransitionError](err); ok {
		return kindTransition.problem(e.Error(), "")
	}
	if e, ok := errors.AsType[*experiment.SlotsError](err); ok {
		return kindSlotsTaken.problem(e.Error(), "slots")
	}
	switch {
	case errors.Is(err, experiment.ErrNotFound):
		return kindNotFound.problem("", "")
	case errors.Is(err, experiment.ErrExists):
		return kindExists.problem("it exists with another definition", "key")
	case errors.Is(err, experiment.ErrConflict):
		return kindStaleETag.problem("read it again and repeat the change", "")
	case errors.Is(err, experiment.ErrOverloaded):
		return kindOverloaded.problem("nothing was done; try again, or at another node", "")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return kindUnavailable.problem("it may or may not have been done; sending it again is safe", "")
	}
	return nil
}
