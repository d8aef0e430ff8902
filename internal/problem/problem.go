// Package problem is how HTTP APIs here read JSON and report errors: bodies are
// decoded strictly, and errors are answered as application/problem+json (RFC 9457).
//
// It knows the kinds of trouble that reading a request can make. Every API has
// its own for the rest, and its own table from errors to problems.
package problem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
)

// Kind is one sort of trouble. Its slug, which is the last part of the type URI,
// and its status are wire values: clients match them.
type Kind struct {
	Slug   string
	Title  string
	Status int
}

// URI returns the type of problems of this kind.
func (k Kind) URI() string { return "/problems/" + k.Slug }

// BadJSON is a body that cannot be read as JSON.
func BadJSON() Kind {
	return Kind{"bad-json", "The body is not one JSON value of the right shape", http.StatusBadRequest}
}

// UnknownField is a field that is not meant to be there.
func UnknownField() Kind {
	return Kind{"unknown-field", "The body has a field that does not exist", http.StatusBadRequest}
}

// TooLarge is a body over the limit.
func TooLarge() Kind {
	return Kind{"too-large", "The body is too large", http.StatusRequestEntityTooLarge}
}

// MediaType is a body that is not declared as JSON.
func MediaType() Kind {
	return Kind{"media-type", "The body must be application/json", http.StatusUnsupportedMediaType}
}

// Invalid is a value that can never be accepted.
func Invalid() Kind {
	return Kind{"invalid", "A field has a value that cannot be accepted", http.StatusUnprocessableEntity}
}

// Internal is what nobody foresaw.
func Internal() Kind {
	return Kind{"internal", "Something broke", http.StatusInternalServerError}
}

// Problem is an error that knows how it looks on the wire. Clients see its detail.
type Problem struct { //nolint:errname // the word of RFC 9457
	Kind   Kind
	Detail string
	Field  string // path into the request, such as events[3].unit.id
}

func (p *Problem) Error() string { return p.Kind.Slug + ": " + p.Detail }

// Write answers p.
func (p *Problem) Write(w http.ResponseWriter) error {
	if p.Kind.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	return write(w, p.Kind.Status, "application/problem+json", struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
		Field  string `json:"field,omitempty"`
	}{p.Kind.URI(), p.Kind.Title, p.Kind.Status, p.Detail, p.Field})
}

// Handle turns h, which returns an error, into an http.HandlerFunc that answers
// the error. h must not write before it returns one. An error that is no Problem
// goes through classify; one that classify returns nil for is a 500, whose cause
// is not shown.
//
// Server errors are logged here, once. Not logged are the client's own mistakes,
// and what ended because the client left.
func Handle(logger *slog.Logger, classify func(error) *Problem, h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		p, ok := errors.AsType[*Problem](err)
		if !ok {
			p = classify(err)
		}
		if p == nil {
			p = &Problem{Kind: Internal()}
		}
		report(logger, r, p.Kind.Status, err)
		if err := p.Write(w); err != nil {
			logger.ErrorContext(r.Context(), "problem not encoded", "error", err)
		}
	}
}

func report(logger *slog.Logger, r *http.Request, status int, err error) {
	left := errors.Is(err, context.Canceled) && r.Context().Err() != nil
	switch {
	case status < http.StatusInternalServerError || left:
	case status == http.StatusServiceUnavailable:
		// The client is told to come again and the metrics count it; under overload
		// there are thousands in a second.
		logger.DebugContext(r.Context(), "request refused", "method", r.Method, "path", r.URL.Path, "error", err)
	default:
		logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
}

// WriteJSON answers v with one write that carries its Content-Length. It writes
// nothing if it returns an error.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	return write(w, status, "application/json", v)
}

func write(w http.ResponseWriter, status int, media string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	body = append(body, '\n')
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone: nobody is left to tell
	return nil
}
