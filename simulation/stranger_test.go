package simulation_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// Addresses of strangers on this host: what one does wrong is not counted against another.
const (
	addrWalker  = "127.0.0.61"
	addrGuesser = "127.0.0.62"
	addrForger  = "127.0.0.63"
	addrSlow    = "127.0.0.64"
	addrOffice  = "127.0.0.65"
	addrPeer    = "127.0.0.66"
)

// TestStranger tries to get into a secured cluster, as far as it is closed, and to keep
// others out of it.
//
//nolint:paralleltest // one cluster at a time, which the subtests share
func TestStranger(t *testing.T) {
	health := fmt.Sprintf("127.0.0.1:%d", pgtest.FreePorts(t, 1)[0])
	b := own(t, &bed{tune: func(o *localcluster.Options) {
		o.Secure = true
		o.Flags = map[pgcluster.NodeID][]string{"n1": {"--health-listen", health}}
	}})
	for _, tt := range []struct {
		name string
		try  func(context.Context, *testing.T, *localcluster.Cluster)
	}{
		{"no token and no route forgotten", walkRoutes},
		{"other spellings of a path", spellPaths},
		{"expired and revoked tokens", loseTokens},
		{"guessing", guessTokens},
		{"headers of nodes", forgeHeaders},
		{"large bodies", sendMuch},
		{"slow clients", sendSlowly},
		{"who never reads", func(ctx context.Context, t *testing.T, _ *localcluster.Cluster) {
			t.Helper()
			neverRead(ctx, t, health)
		}},
		{"a crowd at the Raft port", crowdRaft},
		{"certificates", showCertificates},
		{"without TLS", speakPlainly},
		{"an order of earlier", replayOrder},
		{"PostgreSQL itself", askPostgres},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cluster := b.use(t)
			ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
			defer cancel()
			ctx, release := cluster.Guard(ctx)
			defer release()
			tt.try(ctx, t, cluster)
		})
	}
}

// visitor asks one node from an address of its own.
type visitor struct {
	t     *testing.T
	at    string // host and port of the node
	local string
	trust *tls.Config
	http  *http.Client
}

// visit returns a visitor who comes from the address local to the node m, and shows the
// certificate in conf, if there is one. Its connections end with the test.
func visit(t *testing.T, cluster *localcluster.Cluster, m pgcluster.Member, local string, conf *tls.Config) *visitor {
	t.Helper()
	if conf == nil {
		conf = cluster.Trust()
	}
	v := &visitor{t: t, at: m.HTTPAddr(), local: local, trust: conf}
	tr := &http.Transport{TLSClientConfig: conf, DialContext: v.dialer().DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	v.http = &http.Client{Transport: tr, Timeout: hung, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return v
}

func (v *visitor) dialer() *net.Dialer {
	return &net.Dialer{Timeout: hung, LocalAddr: &net.TCPAddr{IP: net.ParseIP(v.local)}}
}

// answer is what a node says.
type answer struct {
	status int
	header http.Header
	body   string
}

// kind is the last part of the type of a problem.
func (a answer) kind() string {
	var p client.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		return ""
	}
	return strings.TrimPrefix(p.Type, "/problems/")
}

// ask sends a request. Its errors are those of the connection.
func (v *visitor) ask(ctx context.Context, method, path, token string, header http.Header, body io.Reader) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+v.at+path, body)
	if err != nil {
		return answer{}, err
	}
	for name, values := range header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

// must is ask where the node has to answer.
func (v *visitor) must(ctx context.Context, method, path, token string, header http.Header, body io.Reader) answer {
	v.t.Helper()
	a, err := v.ask(ctx, method, path, token, header, body)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// operation is a method of a path in the OpenAPI document.
type operation struct{ method, path string }

// operations returns all that a node says it serves, with something in the place of
// each parameter.
func operations(ctx context.Context, t *testing.T, v *visitor) []operation {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	got := v.must(ctx, http.MethodGet, "/openapi.json", "", nil, nil)
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatalf("GET /openapi.json: status %d, %v", got.status, err)
	}
	fill := strings.NewReplacer("{type}", "user", "{id}", "n1", "{key}", "checkout")
	var all []operation
	for path, item := range doc.Paths {
		for method := range item {
			if method = strings.ToUpper(method); method != "PARAMETERS" {
				all = append(all, operation{method, fill.Replace(path)})
			}
		}
	}
	if len(all) < 40 {
		t.Fatalf("%d operations are documented, want all of them", len(all))
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return all
}

// rolesOf says who may do what, in other words than the routes do. No role: everybody.
func rolesOf(t *testing.T, o operation) []access.Role {
	t.Helper()
	at := func(prefix string) bool { return o.path == prefix || strings.HasPrefix(o.path, prefix+"/") }
	switch {
	case slices.Contains([]string{"/healthz", "/readyz", "/openapi.json", "/live", "/ready", "/primary", "/replica", "/sync"}, o.path):
		return nil
	case at("/v1/treatments"), at("/v1/units"):
		return []access.Role{access.RoleAssign}
	case at("/v1/exposures"):
		return []access.Role{access.RoleAssign, access.RoleIngest}
	case at("/v1/events"), at("/v1/import"):
		return []access.Role{access.RoleIngest}
	case at("/v1/experiments"), at("/v1/layers"):
		return []access.Role{access.RoleExperimenter}
	case at("/v1/node"):
		return []access.Role{access.RoleNode}
	case at("/v1/cluster"), at("/v1/node-view"), at("/v1/node-settings"), at("/metrics"):
		return []access.Role{access.RoleDBA}
	}
	t.Errorf("%s %s: nobody has decided who may do this", o.method, o.path)
	return []access.Role{access.RoleNode}
}

// walkRoutes tries every route without a token, and with those that have other roles.
func walkRoutes(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	v := visit(t, cluster, cluster.Members()[0], addrWalker, nil)
	open := 0
	for _, o := range operations(ctx, t, v) {
		roles := rolesOf(t, o)
		got := v.must(ctx, o.method, o.path, "", nil, strings.NewReader("{}"))
		if len(roles) == 0 {
			if open++; got.status != http.StatusOK && got.status != http.StatusServiceUnavailable {
				t.Errorf("%s %s is open, but answers %d to who has no token", o.method, o.path, got.status)
			}
			continue
		}
		if got.status != http.StatusUnauthorized || got.kind() != "unauthorized" || !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s %s without a token: status %d %s, want 401", o.method, o.path, got.status, got.body)
		}
		tryOtherRoles(ctx, t, v, cluster, o, roles)
	}
	if open != 8 {
		t.Errorf("%d operations are open to all, want 8", open)
	}
	if got := v.must(ctx, http.MethodGet, "/v1/nothing", "", nil, nil); got.status != http.StatusNotFound {
		t.Errorf("a path that is not served: status %d, want 404", got.status)
	}
}

func tryOtherRoles(ctx context.Context, t *testing.T, v *visitor, cluster *localcluster.Cluster, o operation, roles []access.Role) {
	t.Helper()
	for _, role := range access.TokenRoles() {
		if slices.Contains(roles, role) {
			continue
		}
		got := v.must(ctx, o.method, o.path, cluster.Token(role), nil, strings.NewReader("{}"))
		want, kind := http.StatusForbidden, "forbidden"
		if slices.Contains(roles, access.RoleNode) { // a wrong token, as nodes see it
			want, kind = http.StatusUnauthorized, "unauthorized"
		}
		late := want == http.StatusUnauthorized && got.status == http.StatusTooManyRequests
		if !late && (got.status != want || got.kind() != kind) {
			t.Errorf("%s %s with the role %s: status %d %s, want %d", o.method, o.path, role, got.status, got.body, want)
		}
	}
}

// spellPaths asks for what is guarded by other names.
func spellPaths(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	v := visit(t, cluster, cluster.Members()[0], addrWalker, nil)
	for _, o := range []operation{
		{"HEAD", "/v1/cluster"},
		{"GET", "//v1/cluster"},
		{"GET", "/v1//cluster"},
		{"GET", "/v1/cluster/"},
		{"GET", "/v1/./cluster"},
		{"GET", "/live/../v1/cluster"},
		{"GET", "/openapi.json/../metrics"},
		{"GET", "/v1/%63luster"},
		{"GET", "/V1/CLUSTER"},
		{"GET", "/v1/cluster;a=b"},
		{"GET", "/v1/cluster%2f"},
		{"GET", "/v1/cluster%00"},
		{"GET", "/%6detrics"},
		{"get", "/metrics"},
		{"OPTIONS", "/v1/cluster"},
		{"TRACE", "/v1/cluster"},
		{"CONNECT", "/v1/cluster"},
		{"PROPFIND", "/metrics"},
		{"GET", "/debug/pprof/"},
		{"GET", "/v1/cluster?access_token=" + cluster.Token()},
		{"GET", "/v1/cluster?token=" + cluster.Token()},
	} {
		for _, header := range []http.Header{nil, {"X-Http-Method-Override": {"GET"}, "X-Original-Url": {"/live"}, "X-Rewrite-Url": {"/live"}, "X-Real-Ip": {"127.0.0.1"}}} {
			got, err := v.ask(ctx, o.method, o.path, "", header, nil)
			if err == nil && !slices.Contains([]int{400, 401, 404, 405}, got.status) {
				t.Errorf("%s %s: status %d %s", o.method, o.path, got.status, got.body)
			}
		}
	}
}

// token adds a token to the nodes' file, which they follow.
func addToken(ctx context.Context, t *testing.T, cluster *localcluster.Cluster, e access.Entry) string {
	t.Helper()
	token, hash, err := access.NewToken()
	if err == nil {
		e.Hash = hash
		err = access.Add(ctx, filepath.Join(cluster.Dir(), "tokens"), e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// loseTokens uses tokens until they are worth nothing, over connections that stay open.
func loseTokens(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	v := visit(t, cluster, cluster.Members()[0], addrOffice, nil)
	over := addToken(ctx, t, cluster, access.Entry{Name: "over", Roles: []access.Role{access.RoleDBA}, Expires: time.Now().Add(-time.Hour)})
	short := addToken(ctx, t, cluster, access.Entry{Name: "short", Roles: []access.Role{access.RoleDBA}, Expires: time.Now().Add(5 * time.Second)})
	gone := addToken(ctx, t, cluster, access.Entry{Name: "gone", Roles: []access.Role{access.RoleDBA}})
	// The last of them is known as soon as all are. Asked for less often than wrong
	// tokens are refused for their number.
	await := func(what, token, detail string, status int) {
		t.Helper()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			got := v.must(ctx, http.MethodGet, "/v1/cluster", token, nil, nil)
			if got.status == status && strings.Contains(got.body, detail) {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s: status %d %s, want %d", what, got.status, got.body, status)
			case <-tick.C:
			}
		}
	}
	await("a new token", gone, "", http.StatusOK)
	await("an expired token", over, "the token over expired at", http.StatusUnauthorized)
	if got := v.must(ctx, http.MethodGet, "/v1/cluster", short, nil, nil); got.status != http.StatusOK && !strings.Contains(got.body, "the token short expired at") {
		t.Errorf("a token for five seconds: status %d %s", got.status, got.body)
	}
	await("a token for five seconds, after that", short, "the token short expired at", http.StatusUnauthorized)
	if _, err := access.Revoke(ctx, filepath.Join(cluster.Dir(), "tokens"), "gone"); err != nil {
		t.Fatal(err)
	}
	revoked := time.Now()
	await("a revoked token", gone, "not known here", http.StatusUnauthorized)
	t.Logf("a revoked token was refused after %v", time.Since(revoked).Round(time.Millisecond))
}

// guessTokens sends wrong tokens from an address that others use as well.
func guessTokens(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	m := cluster.Members()[0]
	v := visit(t, cluster, m, addrGuesser, nil)
	used, other := cluster.Token(access.RoleDBA), cluster.Token(access.RoleDBA, access.RoleAssign)
	ask := func(v *visitor, token string) answer {
		return v.must(ctx, http.MethodGet, "/v1/cluster", token, nil, nil)
	}
	if got := ask(v, used); got.status != http.StatusOK {
		t.Fatalf("before: status %d %s", got.status, got.body)
	}
	compared, refused, began := 0, 0, time.Now()
	for range 100 {
		token, _, err := access.NewToken()
		if err != nil {
			t.Fatal(err)
		}
		switch got := ask(v, token); {
		case got.status == http.StatusUnauthorized:
			compared++
		case got.status == http.StatusTooManyRequests && got.kind() == "too-many-failures" && got.header.Get("Retry-After") != "":
			refused++
		default:
			t.Fatalf("a guess: status %d %s", got.status, got.body)
		}
		if got := ask(v, used); got.status != http.StatusOK {
			t.Fatalf("who was here before the guesses: status %d %s", got.status, got.body)
		}
	}
	// Ten at once, and one more each second that this took.
	if took := time.Since(began); compared < 10 || compared > 11+int(took/time.Second) {
		t.Errorf("%d guesses were compared and %d refused in %v, want ten, and one more each second", compared, refused, took)
	}
	if got := ask(v, other); got.status != http.StatusOK {
		t.Errorf("a right token that was never used from there: status %d %s", got.status, got.body)
	}
	// The log says so, and shows none of the tokens.
	log, err := os.ReadFile(filepath.Join(cluster.Dir(), string(m.ID), "xpd.log"))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(log); !strings.Contains(text, addrGuesser) || !strings.Contains(text, `"request refused"`) {
		t.Errorf("the log of %s says nothing of %s", m.ID, addrGuesser)
	}
	for _, secret := range []string{"xpd_", nodeToken(t, cluster)} {
		if strings.Contains(string(log), secret) {
			t.Errorf("the log of %s shows a token", m.ID)
		}
	}
}

// nodeToken is what the nodes know each other by: for tests of what it is not enough for.
func nodeToken(t *testing.T, cluster *localcluster.Cluster) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(cluster.Dir(), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pgcluster.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Password(pgcluster.PasswordNode)
}

// forgeHeaders says that it is somebody else, at the leader and at a node that passes
// its changes on.
func forgeHeaders(ctx context.Context, t *testing.T, cluster *localcluster.Cluster) {
	t.Helper()
	forged := http.Header{
		"X-Xpd-Forwarded-For": {"198.51.100.9"}, "X-Xpd-Forwarded-By": {"n9"}, "X-Xpd-Node-Token": {nodeToken(t, cluster)},
		"X-Forwarded-For": {"198.51.100.9"}, "X-Real-Ip": {"198.51.100.9"}, "Forwarded": {"for=198.51.100.9"}, "X-Xpd-Operator": {"ceo"},
	}
	for _, m := range cluster.Members() {
		v := visit(t, cluster, m, addrForger, nil)
		for _, o := range []operation{{"GET", "/v1/cluster"}, {"POST", "/v1/cluster/switchover"}, {"POST", "/v1/node/orders"}, {"GET", "/v1/node/report"}} {
			if got := v.must(ctx, o.method, o.path, "", forged, strings.NewReader("{}")); got.status != http.StatusUnauthorized {
				t.Errorf("%s %s at %s with forged headers: status %d %s, want 401", o.method, o.path, m.ID, got.status, got.body)
			}
		}
		if got := v.must(ctx, http.MethodPost, "/v1/cluster/pause", cluster.Token(access.RoleAssign), forged, strings.NewReader(`{"seconds":60}`)); got.status != http.StatusForbidden {
			t.Errorf("a change at %s with forged headers and another role: status %d %s, want 403", m.ID, got.status, got.body)
		}
		for _, path := range []string{"/v1/cluster/pause", "/v1/cluster/resume"} {
			body := map[string]any{"reason": "asked of " + string(m.ID)}
			if strings.HasSuffix(path, "pause") {
				body["seconds"] = 60
			}
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.must(ctx, http.MethodPost, path, cluster.Token(access.RoleDBA), forged, bytes.NewReader(text)); got.status != http.StatusOK {
				t.Errorf("%s at %s: status %d %s", path, m.ID, got.status, got.body)
			}
		}
	}
	var trail struct {
		Entries []struct{ Name, Operator, From, Action, Reason string }
	}
	reader := visit(t, cluster, cluster.Members()[0], addrForger, nil)
	var got answer
	of := func() (n int) { // how many of the changes the node has heard of
		for _, e := range trail.Entries {
			if strings.Contains(e.Reason, "asked of ") {
				n++
			}
		}
		return n
	}
	want := 2 * len(cluster.Members())
	err := soonish(ctx, "the audit", func() bool {
		got = reader.must(ctx, http.MethodGet, "/v1/cluster/audit", cluster.Token(access.RoleDBA), nil, nil)
		return json.Unmarshal([]byte(got.body), &trail) == nil && of() >= want
	})
	if err != nil || of() != want {
		t.Fatalf("the audit has %d of the changes, want %d: %v\n%s", of(), want, err, got.body)
	}
	for _, e := range trail.Entries {
		if strings.Contains(e.Reason, "asked of ") && (e.From != addrForger || !strings.Contains(e.Name, "dba") || e.Operator != "ceo") {
			t.Errorf("the audit says %+v, want it from %s with the name of the token", e, addrForger)
		}
	}
}
