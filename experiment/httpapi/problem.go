package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/xpd-platform/xpd/experiment"
)

// kind is one sort of trouble that the API reports. Its type URI and status are
// wire values: clients match them, docs/api.md lists them.
type kind uint8

const (
	kindBadJSON kind = iota + 1
	kindUnknownField
	kindBadIfMatch
	kindNoRoute
	kindNotFound
	kindMethod
	kindExists
	kindTransition
	kindSlotsTaken
	kindStaleETag
	kindTooLarge
	kindMediaType
	kindInvalid
	kindIfMatchMissing
	kindInternal
	kindOverloaded
	kindUnavailable
	kindEnd // not a kind: bounds the list for tests
)

// describe returns the last part of the kind's type URI, its title and status.
func (k kind) describe() (slug, title string, status int) {
	switch k {
	case kindBadJSON:
		return "bad-json", "The body is not one JSON value of the right shape", http.StatusBadRequest
	case kindUnknownField:
		return "unknown-field", "The body has a field that does not exist", http.StatusBadRequest
	case kindBadIfMatch:
		return "bad-if-match", "If-Match is not one entity tag", http.StatusBadRequest
	case kindNoRoute:
		return "no-route", "Nothing is served at this path", http.StatusNotFound
	case kindNotFound:
		return "not-found", "It does not exist", http.StatusNotFound
	case kindMethod:
		return "method-not-allowed", "The path does not take this method", http.StatusMethodNotAllowed
	case kindExists:
		return "exists", "The key is taken by something else", http.StatusConflict
	case kindTransition:
		return "bad-transition", "The state does not allow this step", http.StatusConflict
	case kindSlotsTaken:
		return "slots-taken", "Another experiment of the layer owns the slots", http.StatusConflict
	case kindStaleETag:
		return "stale-etag", "It was changed since it was read", http.StatusPreconditionFailed
	case kindTooLarge:
		return "too-large", "The body is too large", http.StatusRequestEntityTooLarge
	case kindMediaType:
		return "media-type", "The body must be application/json", http.StatusUnsupportedMediaType
	case kindInvalid:
		return "invalid", "A field has a value that cannot be accepted", http.StatusUnprocessableEntity
	case kindIfMatchMissing:
		return "if-match-missing", "The change needs an If-Match header", http.StatusPreconditionRequired
	case kindOverloaded:
		return "overloaded", "Too many requests are waiting", http.StatusServiceUnavailable
	case kindUnavailable:
		return "unavailable", "The database did not answer in time", http.StatusServiceUnavailable
	case kindInternal, kindEnd:
	}
	return "internal", "Something broke", http.StatusInternalServerError
}

// problem is an error that knows how it looks on the wire (RFC 9457). The field
// is a path into the request such as events[3].unit.id.
type problem struct {
	kind   kind
	detail string
	field  string
}

func (p *problem) Error() string {
	slug, _, _ := p.kind.describe()
	return slug + ": " + p.detail
}

// problemJSON is the body of an application/problem+json answer.
type problemJSON struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Field  string `json:"field,omitempty"`
}

func (p *problem) json() problemJSON {
	slug, title, status := p.kind.describe()
	return problemJSON{
		Type: "/problems/" + slug, Title: title, Status: status,
		Detail: p.detail, Field: p.field,
	}
}

// invalid reports a value of a field that can never be accepted.
func invalid(field, format string, args ...any) error {
	return &experiment.InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// problemFor is the one table from errors to HTTP. Anything it does not know is a
// 500, whose cause is logged and not shown.
func problemFor(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if e, ok := errors.AsType[*experiment.InvalidError](err); ok {
		return &problem{kindInvalid, e.Reason, e.Field}
	}
	if e, ok := errors.AsType[*experiment.TransitionError](err); ok {
		return &problem{kindTransition, e.Error(), ""}
	}
	if e, ok := errors.AsType[*experiment.SlotsError](err); ok {
		return &problem{kindSlotsTaken, e.Error(), "slots"}
	}
	if p, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{kindTooLarge, fmt.Sprintf("at most %d bytes are accepted here", p.Limit), ""}
	}
	switch {
	case errors.Is(err, experiment.ErrNotFound):
		return &problem{kind: kindNotFound}
	case errors.Is(err, experiment.ErrExists):
		return &problem{kindExists, "it exists with another definition", "key"}
	case errors.Is(err, experiment.ErrConflict):
		return &problem{kindStaleETag, "read it again and repeat the change", ""}
	case errors.Is(err, experiment.ErrOverloaded):
		return &problem{kindOverloaded, "nothing was done; try again, or at another node", ""}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &problem{kindUnavailable, "it may or may not have been done; sending it again is safe", ""}
	default:
		return &problem{kind: kindInternal}
	}
}

// Handle turns h, which returns an error, into an http.HandlerFunc that answers
// the error as application/problem+json. h must not write before it returns an
// error. Server errors are logged here, once; the client's own mistakes are not.
func Handle(logger *slog.Logger, h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			fail(w, r, logger, err)
		}
	}
}

func fail(w http.ResponseWriter, r *http.Request, logger *slog.Logger, err error) {
	p := problemFor(err)
	_, _, status := p.kind.describe()
	left := errors.Is(err, context.Canceled) && r.Context().Err() != nil // a client that left is no trouble
	switch {
	case status < http.StatusInternalServerError || left:
	case status == http.StatusServiceUnavailable:
		logger.WarnContext(r.Context(), "request refused", "method", r.Method, "path", r.URL.Path, "error", err)
	default:
		logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if err := p.write(w); err != nil {
		logger.ErrorContext(r.Context(), "problem not encoded", "error", err)
	}
}

func (p *problem) write(w http.ResponseWriter) error {
	body := p.json()
	if body.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	return write(w, body.Status, "application/problem+json", body)
}
