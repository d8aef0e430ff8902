package access

import (
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/xpd-platform/xpd/internal/problem"
)

// result is how a request was judged: a label of the metric, so a closed set.
type result string

const (
	resultAllowed       result = "allowed"
	resultMissing       result = "missing"        // no token
	resultUnknown       result = "unknown"        // a wrong one
	resultExpired       result = "expired"        // one that was right
	resultNoCertificate result = "no_certificate" // a node without one
	resultForbidden     result = "forbidden"      // a right one without the role
	resultLimited       result = "limited"        // a wrong one from a source that sent too many
	resultCrowded       result = "crowded"        // a right one on a connection that there is no room for
)

// Unauthorized is a request that does not show who makes it.
func Unauthorized() problem.Kind {
	return problem.Kind{Slug: "unauthorized", Title: "The request does not show that it may do this", Status: http.StatusUnauthorized}
}

// Forbidden is a request of somebody who may not make it.
func Forbidden() problem.Kind {
	return problem.Kind{Slug: "forbidden", Title: "Whoever asks may not do this", Status: http.StatusForbidden}
}

// TooManyFailures is a request from where too many wrong tokens came.
func TooManyFailures() problem.Kind {
	return problem.Kind{Slug: "too-many-failures", Title: "Too many wrong tokens came from this address", Status: http.StatusTooManyRequests}
}

// refusal is why a request goes no further.
type refusal struct {
	result  result
	problem problem.Problem
	name    string        // of the token, if it is known
	wait    time.Duration // before another try makes sense
}

func unauthorized(r result, detail string) *refusal {
	return &refusal{result: r, problem: problem.Problem{Kind: Unauthorized(), Detail: detail}}
}

func forbidden(detail string) *refusal {
	return &refusal{result: resultForbidden, problem: problem.Problem{Kind: Forbidden(), Detail: detail}}
}

func limited(wait time.Duration) *refusal {
	return &refusal{result: resultLimited, wait: wait, problem: problem.Problem{
		Kind: TooManyFailures(), Detail: "this token is not known here, and too many such came from this address: wait before the next try; right ones still work",
	}}
}

func crowded(name string) *refusal {
	return &refusal{result: resultCrowded, name: name, problem: problem.Problem{
		Kind:   problem.Kind{Slug: "too-many-connections", Title: "This node has too many connections", Status: http.StatusServiceUnavailable},
		Detail: "every connection has a request under way: ask another node, or again in a moment",
	}}
}

func (f *refusal) answer(w http.ResponseWriter, logger *slog.Logger, r *http.Request) {
	switch f.result {
	case resultMissing, resultNoCertificate:
		w.Header().Set("WWW-Authenticate", `Bearer realm="xpd"`)
	case resultUnknown, resultExpired:
		w.Header().Set("WWW-Authenticate", `Bearer realm="xpd", error="invalid_token"`)
	case resultForbidden:
		w.Header().Set("WWW-Authenticate", `Bearer realm="xpd", error="insufficient_scope"`)
	case resultLimited:
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.wait.Seconds()))))
	case resultCrowded:
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "1")
	case resultAllowed:
	}
	if err := f.problem.Write(w); err != nil {
		logger.ErrorContext(r.Context(), "refusal not answered", "error", err)
	}
}

// Lines about refusals that are logged: so many at once, then one per period.
const (
	logBurst  = 20
	logPeriod = time.Second
)

// refusalLog logs refusals, but no more of them than somebody can read.
type refusalLog struct {
	logger *slog.Logger

	mu      sync.Mutex
	bucket  bucket
	skipped int
}

// write logs a refusal, without the token.
func (l *refusalLog) write(r *http.Request, from netip.Addr, why *refusal, now time.Time) {
	l.mu.Lock()
	if l.bucket.take(now, logBurst, logPeriod) > 0 {
		l.skipped++
		l.mu.Unlock()
		return
	}
	skipped := l.skipped
	l.skipped = 0
	l.mu.Unlock()
	l.logger.WarnContext(r.Context(), "request refused", "result", string(why.result), "source", from.String(),
		"method", r.Method[:min(len(r.Method), 16)], "route", routeOf(r), "token_name", why.name, "reason", why.problem.Detail, "not_logged", skipped)
}

// routeOf returns the pattern of the route: the path may name a unit.
func routeOf(r *http.Request) string {
	if c := chi.RouteContext(r.Context()); c != nil && c.RoutePattern() != "" {
		return c.RoutePattern()
	}
	return "none"
}

type metrics struct {
	requests *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, t *Tokens) *metrics {
	f := promauto.With(reg)
	if t != nil {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "xpd_access_tokens",
			Help: "Tokens of the token file that counts, expired ones too.",
		}, func() float64 { return float64(len(t.cur.Load().entries)) })
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "xpd_access_tokens_stale",
			Help: "1 while the token file cannot be used as it is, and what it was before counts.",
		}, func() float64 {
			if t.stale.Load() {
				return 1
			}
			return 0
		})
	}
	return &metrics{requests: f.NewCounterVec(prometheus.CounterOpts{
		Name: "xpd_access_total",
		Help: "Requests by how they were judged, and by the first of the roles that their route takes.",
	}, []string{"result", "role"})}
}
