// Package httpapi serves the cluster over HTTP: its status and history to people
// and monitors, what people change, and the routes by which nodes talk to each other.
//
// Any node answers any question from what it knows itself; only a change is passed
// on to the leader, over one hop. The package decides nothing: status and refusals
// come from package failover, orders are judged by the agent, and who may ask what by
// package access.
package httpapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/problem"
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

// Options is what the routes are made of. All fields are required but Transport and
// Secure.
type Options struct {
	Self    pgcluster.NodeID
	Members []pgcluster.Member // until some are agreed on
	Policy  failover.Policy
	Agent   Agent
	Guard   *access.Guard
	Logger  *slog.Logger

	// Transport is how the leader is reached, as a node; nil: by plain http.
	Transport http.RoundTripper
	Secure    bool // https is spoken between nodes

	State  func() (s failover.State, index uint64) // as applied on this node
	View   func() failover.View
	Leader func() pgcluster.NodeID // "" if unknown
	// Servers is the Raft group as this node knows it.
	Servers func() []failover.Server
	// Change replaces the agreed state by what f makes of it. It returns
	// failover.ErrNotLeader on a node that does not lead.
	Change func(ctx context.Context, f func(failover.State, failover.View) (failover.State, error)) (failover.State, error)
	// Identify asks who answers at the address of m, a member or not.
	Identify func(ctx context.Context, m pgcluster.Member) (pgcluster.Identity, error)
	// Lost says for how long each node's PostgreSQL could not be connected to from here.
	Lost func() map[pgcluster.NodeID]time.Duration
	// RunningSettings asks this node's PostgreSQL what it runs with.
	RunningSettings func(ctx context.Context) ([]pgcluster.RunningSetting, error)
	Lease           Lease
	Ready           func() error // why this node cannot serve requests now, or nil
}

const (
	maxBody        = 64 << 10
	requestTimeout = 5 * time.Second
	dialTimeout    = 500 * time.Millisecond
)

type server struct {
	Options
	leaderHTTP *http.Client
	scheme     string // of the other nodes' URLs
	refusals   refusals
}

// New returns a function that adds the routes to a router.
func New(o Options) func(chi.Router) { return newServer(o).routes }

func newServer(o Options) *server {
	if o.Transport == nil {
		o.Transport = &http.Transport{
			DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
			IdleConnTimeout: time.Minute,
		}
	}
	s := &server{Options: o, scheme: "http://", leaderHTTP: &http.Client{Transport: o.Transport, CheckRedirect: stay}}
	if o.Secure {
		s.scheme = "https://"
	}
	return s
}

// stay follows no redirect: a leader makes none, and whoever does must not get the
// tokens that are passed on.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Health returns a function that adds the routes of New that load balancers ask. They
// need no Guard.
func Health(o Options) func(chi.Router) {
	return func(r chi.Router) {
		r.Use(bounded, problem.Limit(maxBody))
		(&server{Options: o}).health(r)
	}
}

// routes lists every route of this package.
func (s *server) routes(r chi.Router) {
	r.Use(bounded, problem.Limit(maxBody))
	r.Group(s.health)
	r.With(s.Guard.Require(access.RoleDBA, access.RoleNode)).Get("/v1/cluster", s.handle(s.cluster))
	r.Group(s.forPeople)
	r.Group(s.forNodes)
}

func (s *server) forPeople(r chi.Router) {
	r.Use(s.Guard.Require(access.RoleDBA))
	r.Get("/v1/cluster/plan", s.handle(s.plan))
	r.Get("/v1/cluster/history", s.handle(s.history))
	r.Get("/v1/node-view", s.handle(s.nodeView))
	r.Get("/v1/node-settings", s.handle(s.nodeSettings))
	r.Post("/v1/cluster/switchover", s.handle(changes(s, s.switchover)))
	r.Post("/v1/cluster/failover", s.handle(changes(s, s.failover)))
	r.Post("/v1/cluster/restart", s.handle(changes(s, s.restart)))
	r.Post("/v1/cluster/pause", s.handle(changes(s, s.pause)))
	r.Post("/v1/cluster/resume", s.handle(changes(s, s.resume)))
	r.Get("/v1/cluster/settings", s.handle(s.settings))
	r.Patch("/v1/cluster/settings", s.handle(changes(s, s.changeSettings)))
	r.Post("/v1/cluster/members", s.handle(changes(s, s.addMember)))
	r.Patch("/v1/cluster/members/{id}", s.handle(changes(s, s.changeMember)))
	r.Delete("/v1/cluster/members/{id}", s.handle(changes(s, s.removeMember)))
	r.Post("/v1/cluster/members/{id}/maintenance", s.handle(changes(s, s.beginMaintenance)))
	r.Delete("/v1/cluster/members/{id}/maintenance", s.handle(changes(s, s.endMaintenance)))
	r.Post("/v1/cluster/members/{id}/fence", s.handle(changes(s, s.fence)))
	r.Delete("/v1/cluster/members/{id}/fence", s.handle(changes(s, s.unfence)))
	r.Get("/v1/cluster/members/{id}/reclone", s.handle(s.planReclone))
	r.Post("/v1/cluster/members/{id}/reclone", s.handle(changes(s, s.reclone)))
	r.Delete("/v1/cluster/members/{id}/reclone", s.handle(changes(s, s.cancelReclone)))
	r.Get("/v1/cluster/audit", s.handle(s.audit))
}

func (s *server) forNodes(r chi.Router) {
	r.With(s.Guard.Identity).Get("/v1/node/identity", s.handle(s.identity))
	r = r.With(s.Guard.Nodes)
	r.Get("/v1/node/report", s.handle(s.report))
	r.Post("/v1/node/orders", s.handle(s.order))
	r.Post("/v1/node/lease", s.handle(s.lease))
	r.Post("/v1/node/confirm", s.handle(s.confirm))
}

// health are the routes that everybody may ask.
func (s *server) health(r chi.Router) {
	r.Get("/live", s.fit(s.live))
	r.Get("/ready", s.fit(s.ready))
	r.Get("/primary", s.fit(s.isPrimary))
	r.Get("/replica", s.fit(s.isReplica))
	r.Get("/sync", s.fit(s.isSync))
}

// bounded ends a request's context after a while.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
