package httpapi

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
)

const nodeToken = "the nodes' own"

// askers are two nodes that answer a change with who asked for it. n2 leads.
type askers struct {
	n1, n2 *httptest.Server
	ops    string // a token with the role dba
}

func newAskers(t *testing.T) askers {
	t.Helper()
	a := askers{n1: httptest.NewUnstartedServer(nil), n2: httptest.NewUnstartedServer(nil)}
	path := filepath.Join(t.TempDir(), "tokens")
	var hash string
	var err error
	if a.ops, hash, err = access.NewToken(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("ops dba "+hash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	tokens, err := access.Open(path, logger)
	if err != nil {
		t.Fatal(err)
	}
	st := failover.State{Members: []pgcluster.Member{
		{ID: "n2", Host: "127.0.0.1", HTTPPort: a.n2.Listener.Addr().(*net.TCPAddr).Port},
	}}
	for id, srv := range map[pgcluster.NodeID]*httptest.Server{"n1": a.n1, "n2": a.n2} {
		guard := access.New(access.Options{Tokens: tokens, NodeToken: nodeToken, Logger: logger, Registry: prometheus.NewRegistry()})
		s := newServer(Options{
			Self: id, Guard: guard, Logger: logger,
			State:  func() (failover.State, uint64) { return st, 1 },
			Leader: func() pgcluster.NodeID { return "n2" },
		})
		srv.Config.Handler = guard.Require(access.RoleDBA)(s.handle(changes(s, func(a asked[reasonJSON]) (int, any, error) {
			return http.StatusOK, a.who, nil
		})))
		srv.Start()
		t.Cleanup(srv.Close)
	}
	return a
}

func (a askers) ask(t *testing.T, url string, header ...string) (status int, who failover.Asker) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+a.ops)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&who); err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode, who
}

func TestChanges_whoAsked(t *testing.T) {
	t.Parallel()
	a := newAskers(t)
	ops := failover.Asker{Name: "ops", Operator: "ann", From: "127.0.0.1"}
	tests := []struct {
		name   string
		url    string
		header []string
		want   failover.Asker
	}{
		{"at the leader", a.n2.URL, nil, ops},
		{"passed on", a.n1.URL, nil, ops},
		{"a client says that it is a node", a.n1.URL, []string{"X-Xpd-Forwarded-By", "n3", "X-Xpd-Forwarded-For", "192.0.2.1"}, ops},
		{"it says so to the leader", a.n2.URL, []string{"X-Xpd-Forwarded-By", "n3", "X-Xpd-Forwarded-For", "192.0.2.1"}, ops},
		{"with a guess", a.n2.URL, []string{"X-Xpd-Forwarded-For", "192.0.2.1", "X-Xpd-Node-Token", "guess"}, ops},
		{
			"a node says for whom it asks", a.n2.URL,
			[]string{"X-Xpd-Forwarded-By", "n1", "X-Xpd-Forwarded-For", "192.0.2.1", "X-Xpd-Node-Token", nodeToken},
			failover.Asker{Name: "ops", Operator: "ann", From: "192.0.2.1"},
		},
	}
	for _, tt := range tests {
		status, who := a.ask(t, tt.url, append(tt.header, operatorHeader, "ann")...)
		if diff := cmp.Diff(tt.want, who); diff != "" || status != http.StatusOK {
			t.Errorf("%s: status %d; who asked (-want +got):\n%s", tt.name, status, diff)
		}
	}
}

// The leader judges the token of the client, not that of the node.
func TestChanges_passedOnWithoutAToken(t *testing.T) {
	t.Parallel()
	a := newAskers(t)
	a.ops = "xpd_unknown"
	if status, _ := a.ask(t, a.n2.URL, "X-Xpd-Forwarded-By", "n1", "X-Xpd-Forwarded-For", "192.0.2.1", "X-Xpd-Node-Token", nodeToken); status != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", status)
	}
	a.ops = nodeToken // is for other routes
	if status, _ := a.ask(t, a.n2.URL); status != http.StatusForbidden {
		t.Errorf("with the nodes' token: status %d, want 403", status)
	}
}

// Nodes that do not believe each other, as each has another secret, pass a request on,
// but not in circles.
func TestChanges_doesNotGoInCircles(t *testing.T) {
	t.Parallel()
	a := newAskers(t)
	status, who := a.ask(t, a.n1.URL, "X-Xpd-Forwarded-By", "n1")
	if status != http.StatusOK || who.Name != "ops" {
		t.Errorf("status %d, asked by %+v: want that this node answers itself", status, who)
	}
}
