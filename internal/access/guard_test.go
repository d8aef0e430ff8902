package access_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
)

const nodeToken = "the nodes' own"

var epoch = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// door is a guard with routes behind it that tell who came in.
type door struct {
	guard    *access.Guard
	handler  http.Handler
	registry *prometheus.Registry
	path     string // of the token file

	shop, eva, old token // roles assign and ingest; dba; dba once

	mu  sync.Mutex
	log strings.Builder
	now time.Time
}

func (d *door) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(p)
}

func (d *door) logged() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

func (d *door) advance(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

func newDoor(t *testing.T, o access.Options) *door {
	t.Helper()
	d := &door{
		registry: prometheus.NewRegistry(), path: filepath.Join(t.TempDir(), "tokens"), now: epoch,
		shop: newToken(t), eva: newToken(t), old: newToken(t),
	}
	write(t, d.path, "shop assign,ingest "+d.shop.hash+"\neva dba "+d.eva.hash+" expires=2026-11-22T04:00:00Z\n"+
		"old dba "+d.old.hash+" expires=2026-11-22T03:00:00Z\n")
	tokens, err := access.Open(d.path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o.Tokens, o.NodeToken = tokens, nodeToken
	return d.open(o)
}

func (d *door) open(o access.Options) *door {
	o.Registry, o.Logger = d.registry, slog.New(slog.NewTextHandler(d, nil))
	o.Now = func() time.Time { d.mu.Lock(); defer d.mu.Unlock(); return d.now }
	d.guard = access.New(o)
	who := func(w http.ResponseWriter, r *http.Request) {
		p, ok := access.PrincipalOf(r.Context())
		fmt.Fprintf(w, "%s %v %v %v", p.Name, p.Roles, p.From, ok)
	}
	r := chi.NewRouter()
	r.With(d.guard.Require(access.RoleAssign)).Handle("/units/{id}", http.HandlerFunc(who))
	r.With(d.guard.Require(access.RoleDBA)).Handle("/cluster", http.HandlerFunc(who))
	r.With(d.guard.Require(access.RoleDBA, access.RoleNode)).Handle("/view", http.HandlerFunc(who))
	r.With(d.guard.Nodes).Handle("/orders", http.HandlerFunc(who))
	r.With(d.guard.Identity).Handle("/identity", http.HandlerFunc(who))
	d.handler = r
	return d
}

// ask sends a request with what is to stand in its Authorization headers.
func ask(h http.Handler, authorization ...string) *httptest.ResponseRecorder {
	return askFor(h, "/", "192.0.2.1:1234", authorization...)
}

func askFor(h http.Handler, path, from string, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = from
	r.Header["Authorization"] = authorization
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestGuard(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	stranger, identity := newToken(t), pgcluster.IdentityToken(nodeToken)
	tests := []struct {
		name, path string
		auth       []string
		want       string // who came in, or the kind of the problem
		detail     string
		result     string
	}{
		{name: "the right role", path: "/units/1", auth: []string{"Bearer " + d.shop.text}, want: "shop [assign ingest] 192.0.2.1 true"},
		{name: "another case of the scheme", path: "/units/1", auth: []string{"bearer " + d.shop.text}, want: "shop [assign ingest] 192.0.2.1 true"},
		{name: "before it expires", path: "/cluster", auth: []string{"Bearer " + d.eva.text}, want: "eva [dba] 192.0.2.1 true"},
		{name: "one of two roles", path: "/view", auth: []string{"Bearer " + d.eva.text}, want: "eva [dba] 192.0.2.1 true"},
		{name: "a node, among others", path: "/view", auth: []string{"Bearer " + nodeToken}, want: "node [node] 192.0.2.1 true"},
		{name: "a node", path: "/orders", auth: []string{"Bearer " + nodeToken}, want: "node [node] 192.0.2.1 true"},
		{name: "who asks for a name", path: "/identity", auth: []string{"Bearer " + identity}, want: "node [node] 192.0.2.1 true"},

		{name: "no token", path: "/units/1", want: "unauthorized", detail: "send the header", result: "missing"},
		{name: "no token, for nodes", path: "/orders", want: "unauthorized", detail: "send the header", result: "missing"},
		{name: "another scheme", path: "/units/1", auth: []string{"Basic " + d.shop.text}, want: "unauthorized", detail: "no other scheme", result: "missing"},
		{name: "no scheme", path: "/units/1", auth: []string{d.shop.text}, want: "unauthorized", detail: "no other scheme", result: "missing"},
		{name: "nothing after the scheme", path: "/units/1", auth: []string{"Bearer "}, want: "unauthorized", detail: "no other scheme", result: "missing"},
		{name: "two headers", path: "/units/1", auth: []string{"Bearer " + d.shop.text, "Bearer " + d.shop.text}, want: "unauthorized", detail: "one header", result: "missing"},
		{name: "an unknown token", path: "/units/1", auth: []string{"Bearer " + stranger.text}, want: "unauthorized", detail: "not known here", result: "unknown"},
		{name: "a hash in place of its token", path: "/units/1", auth: []string{"Bearer " + d.shop.hash}, want: "unauthorized", detail: "not known here", result: "unknown"},
		{name: "half of a token", path: "/units/1", auth: []string{"Bearer " + d.shop.text[:30]}, want: "unauthorized", detail: "not known here", result: "unknown"},
		{name: "a token and more", path: "/units/1", auth: []string{"Bearer " + d.shop.text + " "}, want: "unauthorized", detail: "not known here", result: "unknown"},
		{name: "an expired token", path: "/cluster", auth: []string{"Bearer " + d.old.text}, want: "unauthorized", detail: "the token old expired at 2026-11-22T03:00:00Z: ask for a new one", result: "expired"},
		{name: "the wrong role", path: "/cluster", auth: []string{"Bearer " + d.shop.text}, want: "forbidden", detail: "the token shop has the roles assign, ingest; this needs one of: dba", result: "forbidden"},
		{name: "the wrong role for two", path: "/view", auth: []string{"Bearer " + d.shop.text}, want: "forbidden", detail: "this needs one of: dba, node", result: "forbidden"},
		{name: "a node where it has no business", path: "/cluster", auth: []string{"Bearer " + nodeToken}, want: "forbidden", detail: "node", result: "forbidden"},
		{name: "a DBA among nodes", path: "/orders", auth: []string{"Bearer " + d.eva.text}, want: "unauthorized", detail: "for the cluster's nodes", result: "unknown"},
		{name: "what asks for a name gives no orders", path: "/orders", auth: []string{"Bearer " + identity}, want: "unauthorized", detail: "for the cluster's nodes", result: "unknown"},
		{name: "what gives orders is not sent to ask for a name", path: "/identity", auth: []string{"Bearer " + nodeToken}, want: "unauthorized", detail: "for the cluster's nodes", result: "unknown"},
		{name: "what asks for a name sees nothing else", path: "/view", auth: []string{"Bearer " + identity}, want: "unauthorized", detail: "not known here", result: "unknown"},
	}
	for i, tt := range tests {
		got := askFor(d.handler, tt.path, "192.0.2.1:1234", tt.auth...)
		if i%5 == 0 {
			d.advance(10 * time.Second) // the wrong tokens here are for other things than their number
		}
		if tt.result == "" {
			if got.Code != http.StatusOK || got.Body.String() != tt.want {
				t.Errorf("%s: status %d %s, want %s", tt.name, got.Code, got.Body, tt.want)
			}
			continue
		}
		var p struct {
			Type, Title, Detail string
			Status              int
		}
		if err := json.Unmarshal(got.Body.Bytes(), &p); err != nil {
			t.Fatalf("%s: %v: %s", tt.name, err, got.Body)
		}
		if p.Type != "/problems/"+tt.want || !strings.Contains(p.Detail, tt.detail) || p.Status != got.Code || p.Title == "" {
			t.Errorf("%s: status %d, problem %+v, want %s with %q", tt.name, got.Code, p, tt.want, tt.detail)
		}
		if status := map[string]int{"unauthorized": 401, "forbidden": 403}[tt.want]; got.Code != status || !strings.HasPrefix(got.Header().Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: status %d with WWW-Authenticate %q, want %d", tt.name, got.Code, got.Header().Get("WWW-Authenticate"), status)
		}
		if line := lastLine(d.logged()); !strings.Contains(line, "result="+tt.result) || !strings.Contains(line, "source=192.0.2.1") {
			t.Errorf("%s: logged %q, want the result %s and where from", tt.name, line, tt.result)
		}
	}
	for _, secret := range []string{d.shop.text, d.old.text, d.eva.text, stranger.text, nodeToken, identity, d.shop.hash, d.shop.text[:30]} {
		if strings.Contains(d.logged(), secret) {
			t.Errorf("the log shows the secret %q", secret)
		}
	}
	if !strings.Contains(d.logged(), "route=/units/{id}") || strings.Contains(d.logged(), "/units/1") {
		t.Errorf("the log is to name routes, not units:\n%s", d.logged())
	}
	want := `# HELP xpd_access_total Requests by how they were judged, and by the first of the roles that their route takes.
# TYPE xpd_access_total counter
xpd_access_total{result="allowed",role="assign"} 2
xpd_access_total{result="allowed",role="dba"} 3
xpd_access_total{result="allowed",role="node"} 2
xpd_access_total{result="expired",role="dba"} 1
xpd_access_total{result="forbidden",role="dba"} 3
xpd_access_total{result="missing",role="assign"} 5
xpd_access_total{result="missing",role="node"} 1
xpd_access_total{result="unknown",role="assign"} 4
xpd_access_total{result="unknown",role="dba"} 1
xpd_access_total{result="unknown",role="node"} 3
`
	if err := testutil.GatherAndCompare(d.registry, strings.NewReader(want), "xpd_access_total"); err != nil {
		t.Error(err)
	}
}

func TestGuard_expiryIsSeenWhileATokenIsUsed(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	for _, step := range []struct {
		by   time.Duration
		want int
	}{{0, 200}, {time.Hour - time.Nanosecond, 200}, {time.Nanosecond, 401}} {
		d.advance(step.by)
		if got := askFor(d.handler, "/cluster", "192.0.2.1:1", "Bearer "+d.eva.text); got.Code != step.want {
			t.Errorf("at %v: status %d, want %d", d.now, got.Code, step.want)
		}
	}
}

func TestGuard_strangersAreSlowedDown(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	const nat = "192.0.2.1:1234"
	var codes []int
	for range 15 {
		codes = append(codes, askFor(d.handler, "/units/1", nat, "Bearer "+newToken(t).text).Code)
	}
	want := []int{401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 429, 429, 429, 429, 429}
	if diff := cmp.Diff(want, codes); diff != "" {
		t.Errorf("guesses (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		name, path, from, auth string
		want                   int
		retry                  string
	}{
		{"a right token that was never used from there", "/cluster", nat, d.eva.text, 200, ""},
		{"a right token without the role", "/cluster", nat, d.shop.text, 403, ""},
		{"a wrong one from elsewhere", "/cluster", "192.0.2.2:1", "guess", 401, ""},
		{"a node behind the same address", "/orders", nat, nodeToken, 200, ""},
		{"a node on a route of others", "/view", nat, nodeToken, 200, ""},
		{"a guess at the nodes' token", "/orders", nat, "guess", 429, "1"},
	} {
		got := askFor(d.handler, tt.path, tt.from, "Bearer "+tt.auth)
		if got.Code != tt.want || got.Header().Get("Retry-After") != tt.retry {
			t.Errorf("%s: status %d, Retry-After %q, want %d and %q", tt.name, got.Code, got.Header().Get("Retry-After"), tt.want, tt.retry)
		}
	}
	d.advance(time.Second)
	if got := askFor(d.handler, "/cluster", nat, "Bearer guess"); got.Code != 401 {
		t.Errorf("status %d after a second, want 401", got.Code)
	}
	for range 50 { // no guesses
		if got := askFor(d.handler, "/cluster", "192.0.2.3:1"); got.Code != 401 {
			t.Fatalf("status %d without a token, want 401 each time", got.Code)
		}
	}
}

func TestGuard_logsNoFlood(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	for range 1000 {
		askFor(d.handler, "/cluster", "192.0.2.1:1", "Bearer x")
	}
	if got := strings.Count(d.logged(), "\n"); got != 20 {
		t.Errorf("%d lines of a thousand refusals, want 20", got)
	}
	d.advance(time.Second)
	askFor(d.handler, "/cluster", "192.0.2.1:1", "Bearer x")
	if line := lastLine(d.logged()); !strings.Contains(line, "not_logged=980") {
		t.Errorf("logged %q, want the number of those that are not", line)
	}
}

// TestGuard_withoutTokens is a daemon on loopback, where nobody is asked for anything.
func TestGuard_withoutTokens(t *testing.T) {
	t.Parallel()
	d := (&door{registry: prometheus.NewRegistry(), now: epoch}).open(access.Options{NodeToken: nodeToken})
	for _, tt := range []struct {
		name, method, path string
		header             http.Header
		want               int
		body               string
	}{
		{"anybody", "POST", "/cluster", nil, 200, " [] 127.0.0.1 true"},
		{"anybody with a token", "POST", "/cluster", http.Header{"Authorization": {"Bearer x"}}, 200, " [] 127.0.0.1 true"},
		{"a page of another site", "POST", "/cluster", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403, ""},
		{"a page of another site, in an old browser", "POST", "/cluster", http.Header{"Origin": {"https://evil.example"}}, 403, ""},
		{"a stranger among nodes", "POST", "/orders", http.Header{"Authorization": {"Bearer x"}}, 401, ""},
		{"a node", "POST", "/orders", http.Header{"Authorization": {"Bearer " + nodeToken}}, 200, "node [node] 127.0.0.1 true"},
	} {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		r.RemoteAddr = "127.0.0.1:5"
		if tt.header != nil {
			r.Header = tt.header
		}
		w := httptest.NewRecorder()
		d.handler.ServeHTTP(w, r)
		if w.Code != tt.want || tt.body != "" && w.Body.String() != tt.body {
			t.Errorf("%s: status %d %s, want %d %s", tt.name, w.Code, w.Body, tt.want, tt.body)
		}
	}
}

// TestGuard_rebinding has a page in a browser ask by a name that its owner has lead here.
func TestGuard_rebinding(t *testing.T) {
	t.Parallel()
	d := (&door{registry: prometheus.NewRegistry(), now: epoch}).open(access.Options{NodeToken: nodeToken, Called: func(name string) bool { return strings.EqualFold(name, "db1.example") }})
	for host, want := range map[string]int{
		"127.0.0.1:8300": 200, "127.0.0.1": 200, "[::1]:8300": 200, "[::1]": 200, "192.0.2.1": 200,
		"localhost:8300": 200, "LOCALHOST.": 200, "db1.example:8300": 200, "DB1.example": 200,
		"evil.example:8300": 403, "evil.example": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example:8300": 403, "": 403, ":8300": 403,
	} {
		r := httptest.NewRequest(http.MethodPost, "/cluster", nil)
		r.Host, r.RemoteAddr = host, "127.0.0.1:5"
		w := httptest.NewRecorder()
		d.handler.ServeHTTP(w, r)
		if w.Code != want || want == 403 && (!strings.Contains(w.Body.String(), "--tokens") || !strings.Contains(w.Body.String(), "--host-name")) {
			t.Errorf("Host %q: status %d %s, want %d and what to do", host, w.Code, w.Body, want)
		}
	}
	secured := newDoor(t, access.Options{Called: func(string) bool { return false }})
	r := httptest.NewRequest(http.MethodGet, "/cluster", nil)
	r.Host = "lb.example"
	r.Header.Set("Authorization", "Bearer "+secured.eva.text)
	w := httptest.NewRecorder()
	secured.handler.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("with a token, by the name of a balancer: status %d %s, want 200", w.Code, w.Body)
	}
}

// TestGuard_noRoom is told that there is no room for whoever asks.
func TestGuard_noRoom(t *testing.T) {
	t.Parallel()
	var told []string
	d := newDoor(t, access.Options{Admit: func(_ context.Context, p access.Principal) bool {
		told = append(told, p.Name)
		return p.Name != "shop"
	}})
	got := askFor(d.handler, "/units/1", "192.0.2.1:1", "Bearer "+d.shop.text)
	if got.Code != 503 || got.Header().Get("Connection") != "close" || !strings.Contains(got.Body.String(), "too-many-connections") {
		t.Errorf("status %d %s, want 503", got.Code, got.Body)
	}
	for auth, want := range map[string]int{d.eva.text: 200, d.shop.text: 403, "guess": 401} {
		if got := askFor(d.handler, "/cluster", "192.0.2.1:1", "Bearer "+auth); got.Code != want {
			t.Errorf("status %d %s, want %d", got.Code, got.Body, want)
		}
	}
	if diff := cmp.Diff([]string{"shop", "eva"}, told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
}

func TestGuard_withoutNodeToken(t *testing.T) {
	t.Parallel()
	d := (&door{registry: prometheus.NewRegistry(), now: epoch}).open(access.Options{})
	for _, auth := range []string{"Bearer ", "Bearer x", "Bearer " + pgcluster.IdentityToken("")} {
		for _, path := range []string{"/orders", "/identity"} {
			if got := askFor(d.handler, path, "127.0.0.1:5", auth); got.Code != 401 {
				t.Errorf("%s with %q: status %d, want 401", path, auth, got.Code)
			}
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
