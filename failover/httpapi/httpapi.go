// Package httpapi serves the cluster over HTTP: its status and history to people
// and monitors, switchovers, and the routes by which nodes talk to each other.
//
// Any node answers any question from what it knows itself; only a switchover is
// passed on to the leader, over one hop. The package decides nothing: status and
// refusals come from package failover, and orders are judged by the agent.
package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Agent runs this node's PostgreSQL.
type Agent interface {
	// Submit returns once the order is durable, or pgcluster.ErrStaleOrder or
	// pgcluster.ErrWrongSystem.
	Submit(ctx context.Context, o pgcluster.Order) error
	// Changed returns the report as soon as its Seq is above after or ctx ends.
	Changed(ctx context.Context, after uint64) pgcluster.Report
}

// Options is what the routes are made of. All fields are required.
type Options struct {
	Self    pgcluster.NodeID
	Members []pgcluster.Member
	Policy  failover.Policy
	Agent   Agent
	// NodeToken is what the nodes know each other by. Without one the routes
	// between nodes refuse everybody.
	NodeToken string
	Logger    *slog.Logger

	State  func() (s failover.State, index uint64) // as applied on this node
	View   func() failover.View
	Leader func() pgcluster.NodeID // "" if unknown
	// Switchover returns failover.ErrNotLeader on a node that does not lead.
	Switchover func(ctx context.Context, to pgcluster.NodeID, reason string) (failover.Operation, error)
}

const (
	maxBody        = 64 << 10
	requestTimeout = 5 * time.Second
	dialTimeout    = 500 * time.Millisecond
)

type server struct {
	Options
	leaderHTTP *http.Client
	token      [sha256.Size]byte
}

// New returns a function that adds the routes to a router.
func New(o Options) func(chi.Router) {
	s := &server{
		Options: o,
		leaderHTTP: &http.Client{Transport: &http.Transport{
			DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
			IdleConnTimeout: time.Minute,
		}},
		token: sha256.Sum256([]byte("Bearer " + o.NodeToken)),
	}
	return s.routes
}

// routes lists every route of this package.
func (s *server) routes(r chi.Router) {
	r.Use(bounded)
	r.Get("/v1/cluster", s.handle(s.cluster))
	r.Get("/v1/cluster/history", s.handle(s.history))
	r.Post("/v1/cluster/switchover", s.handle(s.switchover))

	r.Get("/v1/node/report", s.handle(s.nodesOnly(s.report)))
	r.Post("/v1/node/orders", s.handle(s.nodesOnly(s.order)))
}

// bounded ends a request's context after a while.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// nodesOnly lets requests through that carry the token of the nodes.
func (s *server) nodesOnly(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		// Hashed, so that the comparison takes the same time for every length.
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if s.NodeToken == "" || subtle.ConstantTimeCompare(got[:], s.token[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			return kindUnauthorized.problem("this route is for the cluster's nodes")
		}
		return h(w, r)
	}
}
