package client_test

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

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// A node that has another one's address does not pass for it, whatever it answers.
func TestNodeClient_believesCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := certs.Order{Dir: dir, Cluster: "test", CALife: 48 * time.Hour, NodeLife: 24 * time.Hour}
	stores := map[pgcluster.NodeID]*certs.Store{}
	for _, id := range []pgcluster.NodeID{"n1", "n2"} {
		o.Nodes = append(o.Nodes, certs.Request{Node: id, Hosts: []string{"127.0.0.1"}, Life: o.NodeLife})
	}
	if _, err := certs.Make(o); err != nil {
		t.Fatal(err)
	}
	for _, n := range o.Nodes {
		s, err := certs.Open(filepath.Join(dir, string(n.Node)), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		stores[n.Node] = s
	}
	var from atomic.Value
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := certs.NodeOf(r.TLS)
		from.Store(id)
		_, _ = w.Write([]byte(`{"node":"n1"}`))
	}))
	srv.Listener = tls.NewListener(srv.Listener, stores["n2"].ServerConfig())
	srv.Start()
	defer srv.Close()
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	members := []pgcluster.Member{{ID: "n1", Host: "127.0.0.1", HTTPPort: port}, {ID: "n2", Host: "127.0.0.1", HTTPPort: port}}
	c := client.NewNodeClient(members, "token", stores["n1"].NodeClientConfig)
	if _, err := c.Identity(t.Context(), "n1"); err == nil || !strings.Contains(err.Error(), "certificate of n2") {
		t.Errorf("Identity() of n1 at the address of n2 = %v, want an error that says who is there", err)
	}
	if from.Load() != nil {
		t.Error("n2 was sent what is for n1, with a token")
	}
	if _, err := c.Identity(t.Context(), "n2"); err != nil {
		t.Errorf("Identity() of n2 = %v", err)
	}
	if _, err := c.Identity(t.Context(), "n1"); err == nil || !strings.Contains(err.Error(), "certificate of n2") {
		t.Errorf("Identity() of n1 on a connection to n2 that was kept = %v, want an error", err)
	}
	if from.Load() != pgcluster.NodeID("n1") {
		t.Errorf("n2 saw the certificate of %v, want that of n1", from.Load())
	}
	if _, err := client.NewNodeClient(members, "token", nil).Identity(t.Context(), "n2"); err == nil {
		t.Error("Identity() in plain HTTP = nil, want an error")
	}
}
