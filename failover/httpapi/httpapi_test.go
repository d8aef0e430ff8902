package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/httpapi"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
)

const token = "the nodes' own"

// agent is an agent without PostgreSQL.
type agent struct {
	mu      sync.Mutex
	report  pgcluster.Report
	changed chan struct{}
	pledged pgcluster.Stamp
	orders  []pgcluster.Order
}

func (a *agent) Submit(_ context.Context, o pgcluster.Order) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case o.Stamp.Before(a.pledged):
		return fmt.Errorf("agent: %w", pgcluster.ErrStaleOrder)
	case o.SystemID != "sys":
		return fmt.Errorf("agent: %w", pgcluster.ErrWrongSystem)
	case o.Kind == pgcluster.OrderInit:
		return errors.New("there is a data directory")
	}
	a.pledged = o.Stamp
	a.orders = append(a.orders, o)
	return nil
}

func (a *agent) Changed(ctx context.Context, after uint64) pgcluster.Report {
	for {
		a.mu.Lock()
		r, changed := a.report, a.changed
		a.mu.Unlock()
		if r.Seq > after {
			return r
		}
		select {
		case <-ctx.Done():
			return r
		case <-changed:
		}
	}
}

func (a *agent) bump() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Seq++
	close(a.changed)
	a.changed = make(chan struct{})
}

// cluster is three nodes that serve HTTP and agree on everything at once.
type cluster struct {
	members []pgcluster.Member
	agents  map[pgcluster.NodeID]*agent
	servers map[pgcluster.NodeID]*httptest.Server

	mu       sync.Mutex
	leader   pgcluster.NodeID // as everybody believes
	leads    pgcluster.NodeID // in truth
	state    failover.State
	asked    []pgcluster.NodeID // nodes whose Change was called
	failing  error
	newcomer pgcluster.Identity // answers at every address
	raft     []failover.Server  // beside n1 and n3
	left     time.Duration      // of every lease
	see      func(*failover.View)
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{
		agents: map[pgcluster.NodeID]*agent{}, servers: map[pgcluster.NodeID]*httptest.Server{},
		leader: "n2", leads: "n2", left: time.Second,
	}
	for _, id := range []pgcluster.NodeID{"n1", "n2", "n3"} {
		srv := httptest.NewUnstartedServer(nil)
		c.servers[id] = srv
		port := srv.Listener.Addr().(*net.TCPAddr).Port
		c.members = append(c.members, pgcluster.Member{ID: id, Host: "127.0.0.1", HTTPPort: port, RaftPort: 1 + len(c.members), PGPort: 5432 + len(c.members)})
		c.agents[id] = &agent{report: pgcluster.Report{Node: id, Seq: 1, Role: pgcluster.RoleStandby}, changed: make(chan struct{})}
	}
	c.state = failover.State{
		Members: c.members, SystemID: "sys",
		Primary: failover.Primary{Node: "n1", Epoch: 4, Access: failover.AccessOpen},
		Epochs:  []failover.Epoch{{Epoch: 4, Node: "n1", Timeline: 1}},
		Sync:    failover.Sync{Durable: pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2", "n3"}, K: 1}},
	}
	for i := range 80 {
		c.state.History = append(c.state.History, failover.Event{Epoch: uint64(i), Kind: "grow"})
	}
	for _, m := range c.members {
		r := chi.NewRouter()
		r.Group(c.routes(m.ID))
		c.servers[m.ID].Config.Handler = r
		c.servers[m.ID].Start()
		t.Cleanup(c.servers[m.ID].Close)
	}
	return c
}

func (c *cluster) routes(self pgcluster.NodeID) func(chi.Router) {
	return httpapi.New(httpapi.Options{
		Self: self, Members: c.members, Policy: failover.DefaultPolicy(), Agent: c.agents[self],
		Guard: guard(access.Options{NodeToken: token}), Logger: slog.New(slog.DiscardHandler),
		State:  func() (failover.State, uint64) { return c.state, 9 },
		View:   c.view,
		Leader: func() pgcluster.NodeID { c.mu.Lock(); defer c.mu.Unlock(); return c.leader },
		Lost: func() map[pgcluster.NodeID]time.Duration {
			return map[pgcluster.NodeID]time.Duration{"n1": 0, "n2": 0, "n3": 7 * time.Second}
		},
		Lease: nodeLease{c, self},
		Ready: func() error { c.mu.Lock(); defer c.mu.Unlock(); return c.failing },
		Servers: func() []failover.Server {
			return append([]failover.Server{{ID: "n1", Voter: true}, {ID: "n3"}}, c.raft...)
		},
		Change: func(_ context.Context, f func(failover.State, failover.View) (failover.State, error)) (failover.State, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.asked = append(c.asked, self)
			switch {
			case self != c.leads:
				return failover.State{}, failover.ErrNotLeader
			case c.failing != nil:
				return failover.State{}, c.failing
			}
			next, err := f(c.state, c.healthy())
			if err == nil && next.Op == nil {
				c.state = next
			}
			return next, err
		},
		Identify: func(context.Context, pgcluster.Member) (pgcluster.Identity, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.newcomer.Node == "" {
				return pgcluster.Identity{}, errors.New("connection refused")
			}
			return c.newcomer, nil
		},
	})
}

// guard returns a Guard that logs nothing.
func guard(o access.Options) *access.Guard {
	o.Logger, o.Registry = slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	return access.New(o)
}

// healthy is what a leader knows when n1 streams to n2 and n3.
func (c *cluster) healthy() failover.View {
	v := failover.View{
		Now: time.Hour, Wall: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), Reports: map[pgcluster.NodeID]failover.Observation{},
	}
	primary := pgcluster.Report{Node: "n1", Process: pgcluster.ProcessRunning, Role: pgcluster.RolePrimary, Open: 4}
	for _, id := range []pgcluster.NodeID{"n2", "n3"} {
		primary.Senders = append(primary.Senders, pgcluster.Sender{Node: id, Streaming: true, SyncPriority: 1})
		v.Reports[id] = failover.Observation{At: v.Now, Report: pgcluster.Report{
			Node: id, Process: pgcluster.ProcessRunning, Role: pgcluster.RoleStandby, Followed: 4,
			Receiver: pgcluster.Receiver{Upstream: "n1", Streaming: true},
		}}
	}
	v.Reports["n1"] = failover.Observation{At: v.Now, Report: primary}
	return v
}

// view has heard of n1 and n2 just now and of n3 too long ago.
func (c *cluster) view() failover.View {
	v := failover.View{Now: time.Hour, Reports: map[pgcluster.NodeID]failover.Observation{}}
	for _, m := range c.members {
		v.Reports[m.ID] = failover.Observation{Report: pgcluster.Report{Node: m.ID, Process: pgcluster.ProcessRunning}, At: v.Now}
	}
	v.Reports["n3"] = failover.Observation{Report: pgcluster.Report{Node: "n3"}, At: v.Now - time.Minute}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.see != nil {
		c.see(&v)
	}
	return v
}

func (c *cluster) client(t *testing.T, nodes ...pgcluster.NodeID) *client.Client {
	t.Helper()
	var urls []string
	for _, id := range nodes {
		urls = append(urls, c.servers[id].URL)
	}
	cl, err := client.New(urls, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	tests := []struct {
		name      string
		leader    pgcluster.NodeID
		open      uint64 // epoch of n1
		confirmed bool
	}{
		{"the leader is there", "n2", c.state.Primary.Epoch, true},
		{"the leader was not heard for long", "n3", 0, false},
		{"no leader is known", "", 0, false},
		{"an epoch is open of which this node does not know", "n2", c.state.Primary.Epoch + 1, false},
	}
	for _, tt := range tests {
		c.mu.Lock()
		c.leader = tt.leader
		c.see = func(v *failover.View) {
			o := v.Reports["n1"]
			o.Report.Open = tt.open
			v.Reports["n1"] = o
		}
		c.mu.Unlock()
		got, err := c.client(t, "n3").Cluster(t.Context())
		if err != nil {
			t.Fatalf("%s: Cluster() = %v", tt.name, err)
		}
		if diff := cmp.Diff(failover.Explain(c.state, c.view(), failover.DefaultPolicy()), got.Status); diff != "" {
			t.Errorf("%s: status (-explained +got):\n%s", tt.name, diff)
		}
		if got.Leader != tt.leader || got.SeenBy != "n3" || got.Confirmed != tt.confirmed {
			t.Errorf("%s: leader %q, seen by %q, confirmed %v", tt.name, got.Leader, got.SeenBy, got.Confirmed)
		}
		if want := (client.ClusterMember{ID: "n1", HTTP: c.members[0].HTTPAddr(), Postgres: c.members[0].PGAddr(), Raft: c.members[0].RaftAddr(), Voter: true}); len(got.Members) != 3 || got.Members[0] != want {
			t.Errorf("%s: members = %+v, want %+v first", tt.name, got.Members, want)
		}
	}
}

func TestSwitchover_isPassedOnToTheLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, id := range []pgcluster.NodeID{"n1", "n2", "n3"} {
		got, err := c.client(t, id).Switchover(t.Context(), "n3", "maintenance")
		if err != nil {
			t.Fatalf("Switchover() at %s = %v", id, err)
		}
		if got.Kind != failover.KindSwitchover || got.To != "n3" || got.Reason != "maintenance" {
			t.Errorf("Switchover() at %s = %+v", id, got)
		}
	}
	if !slices.Equal(c.asked, []pgcluster.NodeID{"n2", "n2", "n2"}) {
		t.Errorf("asked %v, want only the leader", c.asked)
	}

	_, err := c.client(t, "n3").Switchover(t.Context(), "n1", "")
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusConflict || p.Detail != "n1 is primary already" {
		t.Errorf("Switchover() to the primary = %v, want a 409 with the reason", err)
	}
}

func TestSwitchover_needsNoBody(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, id := range []pgcluster.NodeID{"n1", "n2"} { // passed on, and not
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.servers[id].URL+"/v1/cluster/switchover", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := send(t, req); got.StatusCode != http.StatusAccepted {
			t.Errorf("at %s: status %d %s, want 202", id, got.StatusCode, got.body)
		}
	}
}

// Each node believes that another one leads: a request must not go round.
func TestSwitchover_isPassedOnOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.leads = "n3"
	resp := post(t, c.servers["n1"].URL+"/v1/cluster/switchover", "", `{}`)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q, want 503 and a time", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if !slices.Equal(c.asked, []pgcluster.NodeID{"n2"}) {
		t.Errorf("asked %v, want n2 once", c.asked)
	}
}

func TestSwitchover_clientKnowsWhatMayHaveBeenDone(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.servers["n1"].Close() // never reached: the next node is asked
	if _, err := c.client(t, "n1", "n3").Switchover(t.Context(), "n3", ""); err != nil {
		t.Errorf("Switchover() with a dead node = %v", err)
	}

	c.mu.Lock()
	c.leader, c.leads = "", ""
	c.asked = nil
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.client(t, "n2", "n3").Switchover(ctx, "n3", "")
		done <- err
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for rounds := 0; rounds < 2; <-tick.C { // it goes on asking until its caller has had enough
		c.mu.Lock()
		rounds = len(c.asked) / 2
		c.mu.Unlock()
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Switchover() without a leader = %v, want that its caller gave up", err)
	}
	c.mu.Lock()
	c.leader, c.leads, c.failing, c.asked = "n2", "n2", fmt.Errorf("save: %w", failover.ErrUncertain), nil
	c.mu.Unlock()
	if _, err := c.client(t, "n2", "n3").Switchover(t.Context(), "n3", ""); !errors.Is(err, failover.ErrUncertain) {
		t.Errorf("Switchover() = %v, want ErrUncertain", err)
	}
	if len(c.asked) != 1 {
		t.Errorf("an uncertain switchover was asked for %d times, want once", len(c.asked))
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	tests := []struct {
		name, path, body string
		status           int
		kind, field      string
	}{
		{"broken JSON", "/v1/cluster/switchover", `{"to":`, 400, "bad-json", ""},
		{"unknown field", "/v1/cluster/switchover", `{"too":"n1"}`, 400, "unknown-field", "too"},
		{"two values", "/v1/cluster/switchover", `{} {}`, 400, "bad-json", ""},
		{"wrong type", "/v1/cluster/switchover", `{"to":1}`, 422, "invalid", "to"},
		{"long reason", "/v1/cluster/switchover", `{"reason":"` + strings.Repeat("x", 201) + `"}`, 422, "invalid", "reason"},
		{"large body", "/v1/cluster/switchover", `{"reason":"` + strings.Repeat("x", 1<<17) + `"}`, 413, "too-large", ""},
		{"half understood order", "/v1/node/orders", `{"node":"n1","kind":"stop","gently":true}`, 400, "unknown-field", "gently"},
	}
	for _, tt := range tests {
		resp := post(t, c.servers["n2"].URL+tt.path, "Bearer "+token, tt.body)
		var p client.Problem
		if err := json.Unmarshal([]byte(resp.body), &p); err != nil {
			t.Errorf("%s: %v: %s", tt.name, err, resp.body)
			continue
		}
		if resp.StatusCode != tt.status || p.Status != tt.status || p.Type != "/problems/"+tt.kind || p.Field != tt.field || p.Title == "" {
			t.Errorf("%s: status %d, problem %+v", tt.name, resp.StatusCode, p)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s: Content-Type %q", tt.name, got)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, c.servers["n2"].URL+"/v1/cluster/switchover", strings.NewReader("to=n3"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if got := send(t, req).StatusCode; got != http.StatusUnsupportedMediaType {
		t.Errorf("a form: status %d, want 415", got)
	}
	for _, query := range []string{"after=-1", "after=x", "wait_ms=1001"} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, c.servers["n1"].URL+"/v1/node/report?"+query, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		if got := send(t, req).StatusCode; got != http.StatusUnprocessableEntity {
			t.Errorf("%s: status %d, want 422", query, got)
		}
	}
}

func TestOpenAPI_describesEveryRoute(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(httpapi.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	var described, routed []string
	for path, methods := range doc.Paths {
		for m := range methods {
			described = append(described, strings.ToUpper(m)+" "+path)
		}
	}
	r := chi.NewRouter()
	r.Group(newCluster(t).routes("n1"))
	err := chi.Walk(r, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routed = append(routed, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(described)
	slices.Sort(routed)
	if diff := cmp.Diff(routed, described); diff != "" {
		t.Errorf("routes and document differ (-routed +described):\n%s", diff)
	}
}

type answer struct {
	*http.Response
	body string
}

func post(t *testing.T, url, auth, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	return send(t, req)
}

func send(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := strconv.Atoi(resp.Header.Get("Content-Length")); resp.StatusCode != http.StatusNoContent && n != len(raw) {
		t.Errorf("Content-Length %d for %d bytes", n, len(raw))
	}
	return answer{resp, string(raw)}
}
