package access

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Options is what a Guard is made of. Logger and Registry are required.
type Options struct {
	// Tokens are those of services and people. Without any, nobody is asked for one:
	// that is for loopback addresses and for networks that are trusted.
	Tokens *Tokens
	// NodeToken is what the nodes know each other by. Without one the routes
	// between nodes refuse everybody.
	NodeToken       string
	RequireNodeCert bool // of whoever says that it is a node
	// Banned says of a node whether it does not belong to the cluster any more,
	// though its certificate lives on. It must say no of names that it does not
	// know: a node that has fallen behind hears of new ones from themselves. May be nil.
	Banned func(pgcluster.NodeID) bool
	// Called reports whether this node is asked by a name, beside localhost and addresses.
	// Without Tokens a request for another name is refused: a page in a browser can
	// have a name of its own lead here. Nil: every name will do.
	Called func(name string) bool
	// Admit is told who makes the request of a context before it is served, and reports
	// whether there is room for its connection. May be nil.
	Admit func(context.Context, Principal) bool

	Logger   *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time // default time.Now
}

// Principal is who makes a request.
type Principal struct {
	Name  string // of the token, or of the node; "" if no tokens are asked for
	Roles []Role
	From  netip.Addr // of the client, also if a node has passed its request on
}

// Guard lets requests through or refuses them. It is safe for concurrent use.
type Guard struct {
	Options

	limiter  *limiter
	metrics  *metrics
	refusals *refusalLog
	origins  *http.CrossOriginProtection
	node     digest // of the token that gives orders
	identity digest // of the one that asks who this is
}

// New returns a Guard.
func New(o Options) *Guard {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Guard{
		Options: o, limiter: newLimiter(), metrics: newMetrics(o.Registry, o.Tokens),
		refusals: &refusalLog{logger: o.Logger}, origins: http.NewCrossOriginProtection(),
		node: digestOf(o.NodeToken), identity: digestOf(pgcluster.IdentityToken(o.NodeToken)),
	}
}

type principalKey struct{}

// PrincipalOf returns who makes the request of ctx, if a Guard has let it through.
func PrincipalOf(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// Require lets through whoever has one of roles. It panics without any: a route
// that is open to all needs no Guard.
func (g *Guard) Require(roles ...Role) func(http.Handler) http.Handler {
	if len(roles) == 0 {
		panic("access: a route that requires no role")
	}
	return func(next http.Handler) http.Handler {
		return g.guarded(roles, next, func(r *http.Request, from netip.Addr) (Principal, *refusal) {
			return g.judge(r, from, roles)
		})
	}
}

// Nodes lets the cluster's nodes through.
func (g *Guard) Nodes(next http.Handler) http.Handler { return g.nodeRoute(g.node, g.asNode, next) }

// Identity lets through who asks a node only who it is. A node shows it to addresses
// that somebody has typed in, so its token is a weaker one. A node that was removed may
// ask, too: that is how it learns of it.
func (g *Guard) Identity(next http.Handler) http.Handler {
	return g.nodeRoute(g.identity, g.asAnyNode, next)
}

func (g *Guard) nodeRoute(token digest, as func(*tls.ConnectionState, netip.Addr) (Principal, *refusal), next http.Handler) http.Handler {
	return g.guarded([]Role{RoleNode}, next, func(r *http.Request, from netip.Addr) (Principal, *refusal) {
		given, why := bearer(r)
		if why != nil {
			return Principal{}, why
		}
		if d := digestOf(given); g.NodeToken == "" || d.same(&token) == 0 {
			return Principal{}, g.wrong(from, "this route is for the cluster's nodes, and this is not what they know each other by: use the same --secret-file everywhere")
		}
		return as(r.TLS, from)
	})
}

// guarded serves next to whom judge lets through.
func (g *Guard) guarded(roles []Role, next http.Handler, judge func(*http.Request, netip.Addr) (Principal, *refusal)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := g.source(r)
		p, why := judge(r, from)
		if why == nil && g.Admit != nil && !g.Admit(r.Context(), p) {
			why = crowded(p.Name)
		}
		if why != nil {
			g.metrics.requests.WithLabelValues(string(why.result), string(roles[0])).Inc()
			g.refusals.write(r, from, why, g.Now())
			why.answer(w, g.Logger, r)
			return
		}
		g.metrics.requests.WithLabelValues(string(resultAllowed), string(roles[0])).Inc()
		p.From = from
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, p)))
	})
}

// judge decides about a request for a route that roles may use.
func (g *Guard) judge(r *http.Request, from netip.Addr, roles []Role) (Principal, *refusal) {
	if g.Tokens == nil {
		// A page in a browser on this host is no reason to move the primary.
		if err := g.origins.Check(r); err != nil {
			return Principal{}, forbidden("pages of other sites may not do this from a browser")
		}
		if !g.called(r.Host) {
			return Principal{}, forbidden("without tokens this node is asked by its address, as localhost, or by a host name of the cluster's members or of its certificate, not as " +
				strconv.Quote(r.Host[:min(len(r.Host), 100)]) + ": use one of those, or start xpd with --tokens, or with --host-name if that name is the cluster's")
		}
		return Principal{}, nil
	}
	given, why := bearer(r)
	if why != nil {
		return Principal{}, why
	}
	p, why := g.authenticate(r, given, from)
	if why != nil {
		return Principal{}, why
	}
	if !slices.ContainsFunc(roles, func(role Role) bool { return slices.Contains(p.Roles, role) }) {
		why := forbidden("the token " + p.Name + " has the roles " + join(p.Roles, ", ") + "; this needs one of: " + join(roles, ", "))
		why.name = p.Name
		return Principal{}, why
	}
	return p, nil
}

// called reports whether host, as a request names it, is this node's. What is not is
// a name that somebody else had lead here.
func (g *Guard) called(host string) bool {
	if g.Called == nil {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost") || g.Called(host)
}

// authenticate returns whose token it is.
func (g *Guard) authenticate(r *http.Request, token string, from netip.Addr) (Principal, *refusal) {
	d := digestOf(token)
	if g.NodeToken != "" && d.same(&g.node) == 1 {
		return g.asNode(r.TLS, from)
	}
	// Compared whoever sent wrong ones from there: it costs less than the request did, and
	// a stranger behind the same address must not keep out who has the right token.
	e, ok := g.Tokens.cur.Load().find(d)
	switch {
	case !ok:
		return Principal{}, g.wrong(from, "this token is not known here: it is mistyped, or was revoked")
	case e.Expired(g.Now()):
		why := unauthorized(resultExpired, "the token "+e.Name+" expired at "+e.Expires.Format(time.RFC3339)+": ask for a new one")
		why.name = e.Name
		return Principal{}, why
	}
	return Principal{Name: e.Name, Roles: e.Roles}, nil
}

// asNode returns the member that showed the right token over the connection cs.
func (g *Guard) asNode(cs *tls.ConnectionState, from netip.Addr) (Principal, *refusal) {
	p, why := g.asAnyNode(cs, from)
	if id, ok := nodeOf(cs); why == nil && ok && g.Banned != nil && g.Banned(id) {
		return Principal{}, forbidden(string(id) + " does not belong to the cluster any more")
	}
	return p, why
}

// asAnyNode is asNode also for a node that was a member once.
func (g *Guard) asAnyNode(cs *tls.ConnectionState, from netip.Addr) (Principal, *refusal) {
	id, ok := nodeOf(cs)
	switch {
	case !ok && g.RequireNodeCert:
		return Principal{}, unauthorized(resultNoCertificate, "a node shows a certificate of this cluster: give it --tls-dir with one that xpd certs made")
	case !ok:
		id = "node"
	}
	return Principal{Name: string(id), Roles: []Role{RoleNode}, From: from}, nil
}

func nodeOf(cs *tls.ConnectionState) (pgcluster.NodeID, bool) {
	if cs == nil {
		return "", false
	}
	return certs.NodeOf(cs)
}

// wrong counts a wrong token and refuses it.
func (g *Guard) wrong(from netip.Addr, detail string) *refusal {
	if wait := g.limiter.fail(from, g.Now()); wait > 0 {
		return limited(wait)
	}
	return unauthorized(resultUnknown, detail)
}

// bearer returns the token of a request.
func bearer(r *http.Request) (string, *refusal) {
	given := r.Header.Values("Authorization")
	if len(given) == 0 {
		return "", unauthorized(resultMissing, "send the header Authorization: Bearer TOKEN")
	}
	scheme, token, ok := strings.Cut(given[0], " ")
	if len(given) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", unauthorized(resultMissing, "send one header Authorization: Bearer TOKEN, and no other scheme")
	}
	return token, nil
}
