package httpapi

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"slices"
	"sync/atomic"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

const maxReason = 200

// Headers of a change. Nobody checks them; what is believed of a request that a node
// has passed on is up to package access.
const (
	// forwardedHeader names the nodes that passed a request on.
	forwardedHeader = "X-Xpd-Forwarded-By"
	// operatorHeader names who asks, for the history.
	operatorHeader = "X-Xpd-Operator"
)

var operatorName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@._-]{0,63}$`)

// asked is a change that somebody asks for.
type asked[T any] struct {
	*http.Request

	in  T
	who failover.Asker
}

// why is the reason for the history.
func (a asked[T]) why(reason string) string {
	if reason == "" {
		reason = "asked for"
	}
	if a.who.String() == "" {
		return reason
	}
	return fmt.Sprintf("%s (by %v)", reason, a.who)
}

// instead returns a function for explained that gives the reason of who asks.
func (a asked[T]) instead(reason string) func(string) string {
	return func(string) string { return a.why(reason) }
}

// changes returns a handler that passes a change on to the leader, unless this node
// leads: then it has do carry it out, and answers with the status and the body that
// do returns. An empty body of the request stands for a zero T.
func changes[T any](s *server, do func(asked[T]) (status int, body any, err error)) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		who, err := askerOf(r)
		if err != nil {
			return err
		}
		a := asked[T]{Request: r, who: who}
		var raw bytes.Buffer
		if r.ContentLength != 0 {
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.TeeReader(r.Body, &raw), r.Body}
			if err := problem.Decode(w, r, maxBody, &a.in); err != nil {
				return err
			}
		}
		leader := s.Leader()
		if leader != s.Self && leader != "" && s.mayForward(r) {
			return s.forward(w, r, leader, raw.Bytes())
		}
		status, body, err := do(a)
		if err != nil {
			return err
		}
		return problem.WriteJSON(w, status, body)
	}
}

// askerOf returns who asks for a change.
func askerOf(r *http.Request) (failover.Asker, error) {
	a := failover.Asker{Operator: r.Header.Get(operatorHeader)}
	if a.Operator != "" && !operatorName.MatchString(a.Operator) {
		return a, invalid(operatorHeader, "want up to 64 letters, digits, dots, dashes, underscores or @")
	}
	if p, ok := access.PrincipalOf(r.Context()); ok {
		a.Name = p.Name
		if p.From.IsValid() {
			a.From = p.From.String()
		}
	}
	return a, nil
}

// mayForward reports whether a request was not passed on yet. If nodes do not believe
// each other that they are nodes, it must still not go in circles.
func (s *server) mayForward(r *http.Request) bool {
	return !s.Guard.Forwarded(r) && !slices.Contains(r.Header.Values(forwardedHeader), string(s.Self))
}

// forward passes a change on to the leader, which judges again whether the client may
// make it, and answers with what the leader answers.
func (s *server) forward(w http.ResponseWriter, r *http.Request, leader pgcluster.NodeID, body []byte) error {
	st, _ := s.State()
	m, known := failover.State{Members: s.members(st)}.Member(leader)
	if !known {
		return fmt.Errorf("leader %s has no address here: %w", leader, failover.ErrNotLeader)
	}
	url := s.scheme + m.HTTPAddr() + r.URL.EscapedPath()
	// The tokens are for the leader: no other node that answers at its address gets them.
	ctx := certs.Expect(r.Context(), leader)
	req, err := http.NewRequestWithContext(ctx, r.Method, url, bytes.NewReader(body)) //nolint:gosec // to a member; the path has a route here
	if err != nil {
		return fmt.Errorf("forward to %s: %w", leader, err)
	}
	for _, name := range []string{"Content-Type", operatorHeader} {
		if v := r.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	s.Guard.Forward(req, r)
	for _, by := range r.Header.Values(forwardedHeader) {
		req.Header.Add(forwardedHeader, by)
	}
	req.Header.Add(forwardedHeader, string(s.Self))
	var connected atomic.Bool // with TLS: to the leader, and to nobody else
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}))
	resp, err := s.leaderHTTP.Do(req) //nolint:gosec // likewise
	if err != nil {
		s.Logger.WarnContext(r.Context(), "leader not reached", "leader", leader, "error", err)
		if !connected.Load() {
			return kindNoLeader.problem(fmt.Sprintf("%s leads but cannot be reached; nothing was done", leader))
		}
		return fmt.Errorf("forward to %s: %w", leader, failover.ErrUncertain)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("forward to %s: read answer: %w: %w", leader, failover.ErrUncertain, err)
	}
	for _, name := range []string{"Content-Type", "Retry-After", "WWW-Authenticate"} {
		if v := resp.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer) // the client has gone: nobody is left to tell
	return nil
}

// rule is a change of the agreed state, as package failover makes them.
type rule = func(failover.State, failover.View) (failover.State, error)

// explained returns f with the reason of the event that it records replaced by what
// why makes of it: rules that take no reason leave it to who asks.
func explained(why func(string) string, f rule) rule {
	return func(s failover.State, v failover.View) (failover.State, error) {
		next, err := f(s, v)
		was, is := len(s.History), len(next.History)
		if err == nil && is > 0 && (is != was || !next.History[is-1].At.Equal(s.History[was-1].At)) {
			next.History[is-1].Reason = why(next.History[is-1].Reason) // of a copy that is not shared yet
		}
		return next, err
	}
}

func checkReason(reason string) error {
	if len(reason) > maxReason {
		return invalid("reason", fmt.Sprintf("at most %d bytes", maxReason))
	}
	return nil
}

// operationJSON is the answer to what takes a while.
type operationJSON struct {
	Operation *failover.Operation `json:"operation"`
}
