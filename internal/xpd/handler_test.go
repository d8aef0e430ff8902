package xpd

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/raftstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Every route of the whole daemon is in /openapi.json, and nothing else is.
func TestHandler_matchesOpenAPI(t *testing.T) {
	t.Parallel()
	h := newDaemon(t).handler()
	var routes []string
	err := chi.Walk(h.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes = append(routes, method+" "+strings.TrimSuffix(route, "/"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	var documented []string
	for path, operations := range doc.Paths {
		for method := range operations {
			if m := strings.ToUpper(method); slices.Contains([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, m) {
				documented = append(documented, m+" "+path)
			}
		}
	}
	slices.Sort(routes)
	slices.Sort(documented)
	if diff := cmp.Diff(documented, routes); diff != "" {
		t.Errorf("routes differ from the document (-documented +served):\n%s", diff)
	}
}

// newDaemon returns the parts of a node, put together but not running.
func newDaemon(t *testing.T, change ...func(*Options)) *daemon {
	t.Helper()
	ports := pgtest.FreePorts(t, 3)
	self := pgcluster.Member{ID: "n1", Host: "127.0.0.1", HTTPPort: ports[0], RaftPort: ports[1], PGPort: ports[2]}
	d := &daemon{self: self, policy: failover.DefaultPolicy(), Options: Options{
		Node: "n1", Members: []pgcluster.Member{self}, Dir: pgtest.Dir(t),
		Secret: pgcluster.Secret(strings.Repeat("s", 32)), PGBin: pgtest.BinDir(t), PGUser: pgtest.OSUser(),
		Drain: time.Second, Timeout: time.Second, CacheUnits: 100,
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	}}
	for _, f := range change {
		f(&d.Options)
	}
	if err := d.protect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.cluster(); err != nil {
		t.Fatal(err)
	}
	if err := d.experiments(); err != nil {
		t.Fatal(err)
	}
	var err error
	d.raft, err = raftstore.Open(raftstore.Options{
		Node: "n1", Members: d.Members, Dir: filepath.Join(d.Dir, "raft"),
		ListenAddr: net.JoinHostPort("127.0.0.1", "0"), Logger: d.Logger, Registry: d.Registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := canceled(t)
	t.Cleanup(func() {
		cancel()
		if err := d.raft.Run(ctx); err != nil {
			t.Errorf("close Raft: %v", err)
		}
	})
	d.control()
	return d
}
