package httpapi_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover/httpapi"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestNodes_longPoll(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := client.NewNodeClient(c.members, token, nil)
	r, err := n.Report(t.Context(), "n1", 0, time.Second)
	if err != nil || r.Node != "n1" || r.Seq != 1 {
		t.Fatalf("Report() = %+v, %v", r, err)
	}
	if r, err = n.Report(t.Context(), "n1", 1, 10*time.Millisecond); err != nil || r.Seq != 1 {
		t.Errorf("Report() without news = %+v, %v, want the old one after a while", r, err)
	}
	go c.agents["n1"].bump()
	for r.Seq == 1 { // again where a second was too short for this machine
		if r, err = n.Report(t.Context(), "n1", 1, time.Second); err != nil || r.Seq > 2 {
			t.Fatalf("Report() = %+v, %v, want the new one", r, err)
		}
	}
}

func TestNodes_orders(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := client.NewNodeClient(c.members, token, nil)
	o := pgcluster.Order{
		Node: "n1", Kind: pgcluster.OrderLead, Stamp: pgcluster.Stamp{Epoch: 4, Term: 2, Index: 9}, SystemID: "sys",
		Sync: pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2"}, K: 1}, Barrier: true,
	}
	if err := n.Order(t.Context(), o); err != nil {
		t.Fatalf("Order() = %v", err)
	}
	if diff := cmp.Diff([]pgcluster.Order{o}, c.agents["n1"].orders); diff != "" {
		t.Errorf("orders (-sent +received):\n%s", diff)
	}
	old := o
	old.Stamp.Term = 1
	if err := n.Order(t.Context(), old); !errors.Is(err, pgcluster.ErrStaleOrder) {
		t.Errorf("Order() with an old stamp = %v, want ErrStaleOrder", err)
	}
	foreign := o
	foreign.SystemID = "another"
	if err := n.Order(t.Context(), foreign); !errors.Is(err, pgcluster.ErrWrongSystem) {
		t.Errorf("Order() of another cluster = %v, want ErrWrongSystem", err)
	}
	refused := o
	refused.Kind = pgcluster.OrderInit
	if err := n.Order(t.Context(), refused); err == nil || !strings.Contains(err.Error(), "there is a data directory") {
		t.Errorf("Order() = %v, want the agent's reason", err)
	}
}

// A node at the address of another is told from it.
func TestNodes_wrongAddress(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	swapped := slices.Clone(c.members)
	swapped[0].ID, swapped[1].ID = "n2", "n1"
	n := client.NewNodeClient(swapped, token, nil)
	if _, err := n.Report(t.Context(), "n1", 0, 0); err == nil {
		t.Error("Report() of another node = nil, want an error")
	}
	err := n.Order(t.Context(), pgcluster.Order{Node: "n1", Kind: pgcluster.OrderStop})
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Field != "node" {
		t.Errorf("Order() to another node = %v, want a problem with node", err)
	}
}

func TestNodes_needTheToken(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic " + token, token} {
		if got := post(t, c.servers["n1"].URL+"/v1/node/orders", auth, `{"node":"n1"}`).StatusCode; got != http.StatusUnauthorized {
			t.Errorf("Authorization %q: status %d, want 401", auth, got)
		}
	}
	r := chi.NewRouter()
	r.Group(httpapi.New(httpapi.Options{Self: "n1", Agent: c.agents["n1"], Guard: guard(access.Options{}), Logger: slog.New(slog.DiscardHandler)}))
	srv := httptest.NewServer(r)
	defer srv.Close()
	if got := post(t, srv.URL+"/v1/node/orders", "Bearer ", `{"node":"n1"}`).StatusCode; got != http.StatusUnauthorized {
		t.Errorf("no token is configured: status %d, want 401", got)
	}
	if len(c.agents["n1"].orders) != 0 {
		t.Error("an order got through")
	}
}
