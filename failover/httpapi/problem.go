package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// kind is one sort of trouble that these routes report. Its type URI and status
// are wire values: package client matches them.
type kind uint8

const (
	kindInternal kind = iota + 1
	kindBadJSON
	kindInvalid
	kindTooLarge
	kindUnauthorized
	kindRefused
	kindStaleOrder
	kindWrongSystem
	kindOrderFailed
	kindNoLeader
	kindUncertain
	kindUnavailable
)

// describe returns the last part of the kind's type URI, its title and status.
func (k kind) describe() (slug, title string, status int) {
	switch k {
	case kindBadJSON:
		return "bad-json", "The body is not one JSON value of the right shape", http.StatusBadRequest
	case kindInvalid:
		return "invalid", "A field has a value that cannot be accepted", http.StatusUnprocessableEntity
	case kindTooLarge:
		return "too-large", "The body is too large", http.StatusRequestEntityTooLarge
	case kindUnauthorized:
		return "unauthorized", "The request does not show that it may do this", http.StatusUnauthorized
	case kindRefused:
		return "refused", "The state of the cluster forbids it", http.StatusConflict
	case kindStaleOrder:
		return "stale-order", "The node has pledged to a newer order", http.StatusConflict
	case kindWrongSystem:
		return "wrong-system", "The node's data belongs to another cluster", http.StatusConflict
	case kindOrderFailed:
		return "order-failed", "The agent could not accept the order", http.StatusInternalServerError
	case kindNoLeader:
		return "no-leader", "No node leads the cluster right now", http.StatusServiceUnavailable
	case kindUncertain:
		return "uncertain", "It may have been done or not", http.StatusGatewayTimeout
	case kindUnavailable:
		return "unavailable", "The node did not answer in time", http.StatusServiceUnavailable
	case kindInternal:
	}
	return "internal", "Something broke", http.StatusInternalServerError
}

// problem is an error that knows how it looks on the wire (RFC 9457).
type problem struct {
	kind   kind
	detail string
	field  string
}

func (p *problem) Error() string {
	slug, _, _ := p.kind.describe()
	return slug + ": " + p.detail
}

// problemJSON is the body of an application/problem+json answer, of the same
// shape as in the API of experiments.
type problemJSON struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Field  string `json:"field,omitempty"`
}

// problemFor is the one table from errors to HTTP. Anything it does not know is a
// 500, whose cause is logged and not shown.
func problemFor(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if e, ok := errors.AsType[*failover.RefusedError](err); ok {
		return &problem{kind: kindRefused, detail: e.Reason}
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{kind: kindTooLarge, detail: fmt.Sprintf("at most %d bytes are accepted here", e.Limit)}
	}
	switch {
	case errors.Is(err, failover.ErrNotLeader):
		return &problem{kind: kindNoLeader, detail: "nothing was done; try again"}
	case errors.Is(err, failover.ErrUncertain):
		return &problem{kind: kindUncertain, detail: "look at the status before trying again"}
	case errors.Is(err, pgcluster.ErrStaleOrder):
		return &problem{kind: kindStaleOrder, detail: err.Error()}
	case errors.Is(err, pgcluster.ErrWrongSystem):
		return &problem{kind: kindWrongSystem, detail: err.Error()}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &problem{kind: kindUnavailable, detail: "sending it again is safe"}
	default:
		return &problem{kind: kindInternal}
	}
}

// handler answers a request, or returns an error before it has written anything.
type handler func(http.ResponseWriter, *http.Request) error

func (s *server) handle(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		p := problemFor(err)
		slug, title, status := p.kind.describe()
		switch {
		case status == http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", "1")
		case status >= http.StatusInternalServerError:
			s.Logger.WarnContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		body := problemJSON{Type: "/problems/" + slug, Title: title, Status: status, Detail: p.detail, Field: p.field}
		if err := write(w, status, "application/problem+json", body); err != nil {
			s.Logger.ErrorContext(r.Context(), "problem not encoded", "error", err)
		}
	}
}

// write answers v with one write that carries its length.
func write(w http.ResponseWriter, status int, media string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	body = append(body, '\n')
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone: nobody is left to tell
	return nil
}

// decode reads the one JSON value that body must be into v.
func decode(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return &problem{kindInvalid, "a JSON " + e.Value + " does not fit here", e.Field}
		}
		return &problem{kind: kindBadJSON, detail: strings.TrimPrefix(err.Error(), "json: ")}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &problem{kind: kindBadJSON, detail: "more data follows the JSON value"}
	}
	return nil
}
