package httpapi

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// TestForward_toTheLeaderOnly has another node of the cluster answer at the address of
// the leader: it must not be sent the tokens, and who asks is told that nothing was done.
func TestForward_toTheLeaderOnly(t *testing.T) {
	t.Parallel()
	o := certs.Order{Dir: t.TempDir(), Cluster: "test", CALife: 48 * time.Hour, NodeLife: 24 * time.Hour}
	for _, id := range []pgcluster.NodeID{"n1", "n2", "n3"} {
		o.Nodes = append(o.Nodes, certs.Request{Node: id, Hosts: []string{"127.0.0.1"}})
	}
	if _, err := certs.Make(o); err != nil {
		t.Fatal(err)
	}
	open := func(id string) *certs.Store {
		s, err := certs.Open(filepath.Join(o.Dir, id), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var asked atomic.Int64
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	other.Listener = tls.NewListener(other.Listener, open("n3").ServerConfig())
	other.Start()
	defer other.Close()

	member := pgcluster.Member{ID: "n2", Host: "127.0.0.1", HTTPPort: other.Listener.Addr().(*net.TCPAddr).Port}
	for leader, want := range map[pgcluster.NodeID]struct {
		asked  int64
		status int
	}{"n2": {0, http.StatusServiceUnavailable}, "n3": {1, http.StatusOK}} {
		member.ID = leader
		st := failover.State{Members: []pgcluster.Member{member}}
		logger := slog.New(slog.DiscardHandler)
		s := newServer(Options{
			Self: "n1", Logger: logger, Secure: true, Transport: client.NodeTransport(open("n1").NodeClientConfig),
			Guard:  access.New(access.Options{NodeToken: nodeToken, Logger: logger, Registry: prometheus.NewRegistry()}),
			State:  func() (failover.State, uint64) { return st, 1 },
			Leader: func() pgcluster.NodeID { return leader },
		})
		asked.Store(0)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/cluster/switchover", strings.NewReader(`{}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.handle(changes(s, s.switchover))(w, r)
		if got := asked.Load(); got != want.asked {
			t.Errorf("%s leads, and n3 answers at its address: it was sent %d requests, want %d", leader, got, want.asked)
		}
		if w.Code != want.status || want.asked == 0 && !strings.Contains(w.Body.String(), "nothing was done") {
			t.Errorf("%s leads: the client is told %d %s, want %d", leader, w.Code, w.Body, want.status)
		}
	}
}
