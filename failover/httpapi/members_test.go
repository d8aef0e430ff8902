package httpapi_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestAddMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.newcomer = pgcluster.Identity{Node: "n4"}
	cl := c.client(t, "n3") // passed on to the leader
	cl.Operator("alice@example")
	m, err := cl.AddMember(t.Context(), "n4=127.0.0.9:1:2:3/zone=b/priority=-1/nosync", "more readers")
	if err != nil {
		t.Fatal(err)
	}
	want := client.ClusterMember{ID: "n4", HTTP: "127.0.0.9:1", Raft: "127.0.0.9:2", Postgres: "127.0.0.9:3", Zone: "b", Priority: -1, NoSync: true}
	if m != want {
		t.Errorf("AddMember() = %+v, want %+v", m, want)
	}
	last := c.state.History[len(c.state.History)-1]
	if last.Kind != "added" || last.Node != "n4" || last.Reason != "more readers (by alice@example)" {
		t.Errorf("event = %+v", last)
	}
}

// F48: who joins must be who it is said to be, and of no other cluster.
func TestAddMember_refuses(t *testing.T) {
	t.Parallel()
	other := []pgcluster.NodeID{"m1", "m2"}
	tests := map[string]struct {
		member   string
		newcomer pgcluster.Identity
		status   int
		want     string
	}{
		"syntax":            {"n4", pgcluster.Identity{}, http.StatusUnprocessableEntity, "want NAME=HOST"},
		"name is taken":     {"n2=127.0.0.9:1:2:3", pgcluster.Identity{Node: "n2"}, http.StatusConflict, "n2 already"},
		"nobody there":      {"n4=127.0.0.9:1:2:3", pgcluster.Identity{}, http.StatusConflict, "start it there with --join first"},
		"another name":      {"n4=127.0.0.9:1:2:3", pgcluster.Identity{Node: "n5"}, http.StatusConflict, "n5 answers at 127.0.0.9:1, not n4"},
		"another system":    {"n4=127.0.0.9:1:2:3", pgcluster.Identity{Node: "n4", SystemID: "other"}, http.StatusConflict, "another PostgreSQL system: other"},
		"another cluster":   {"n4=127.0.0.9:1:2:3", pgcluster.Identity{Node: "n4", Cluster: "other", Members: other}, http.StatusConflict, "has belonged to a cluster"},
		"a cluster not yet": {"n4=127.0.0.9:1:2:3", pgcluster.Identity{Node: "n4", Members: other}, http.StatusConflict, "has belonged to a cluster"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.newcomer = tt.newcomer
			_, err := c.client(t, "n2").AddMember(t.Context(), tt.member, "")
			p, ok := errors.AsType[*client.Problem](err)
			if !ok || p.Status != tt.status || !strings.Contains(p.Detail, tt.want) {
				t.Errorf("AddMember() = %v, want status %d and %q", err, tt.status, tt.want)
			}
			if len(c.state.Members) != 3 {
				t.Errorf("members = %v", c.state.Members)
			}
		})
	}
}

// A node that was initialised from this cluster's own data may join.
func TestAddMember_withDataOfThisCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.newcomer = pgcluster.Identity{Node: "n4", SystemID: "sys", Role: pgcluster.RoleStandby}
	if _, err := c.client(t, "n2").AddMember(t.Context(), "n4=127.0.0.9:1:2:3", ""); err != nil {
		t.Error(err)
	}
}

// Whoever was removed and comes back under its name with nothing must not inherit a
// vote.
func TestAddMember_whileItIsStillInRaft(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.newcomer = pgcluster.Identity{Node: "n4"}
	c.raft = []failover.Server{{ID: "n4", Addr: "127.0.0.8:2", Voter: true}}
	_, err := c.client(t, "n2").AddMember(t.Context(), "n4=127.0.0.9:1:2:3", "")
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusConflict || !strings.Contains(p.Detail, "in the Raft group already") {
		t.Errorf("AddMember() = %v, want a refusal", err)
	}
}

func TestChangeMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cl := c.client(t, "n1")
	m, err := cl.ChangeMember(t.Context(), "n3", []string{"zone=b", "nofailover"}, "")
	if err != nil || m.Zone != "b" || !m.NoFailover || m.ID != "n3" {
		t.Errorf("ChangeMember() = %+v, %v", m, err)
	}
	for _, tags := range [][]string{{"arbiter"}, {"witness"}} {
		if _, err := cl.ChangeMember(t.Context(), "n3", tags, ""); err == nil {
			t.Errorf("ChangeMember(%v) = nil, want an error", tags)
		}
	}
	if _, err := cl.ChangeMember(t.Context(), "n9", []string{"zone=b"}, ""); err == nil {
		t.Error("ChangeMember() of nobody = nil, want an error")
	}
}

func TestRemoveMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cl := c.client(t, "n1")
	for range 2 { // the second time nothing is left to do
		m, err := cl.RemoveMember(t.Context(), "n3", "sold")
		if err != nil || !m.Leaving {
			t.Fatalf("RemoveMember() = %+v, %v", m, err)
		}
	}
	_, err := cl.RemoveMember(t.Context(), "n1", "")
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusConflict {
		t.Errorf("RemoveMember() of the primary = %v, want a refusal", err)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := client.NewNodeClient(c.members, token, nil)
	who, err := n.Identity(t.Context(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	if who.Node != "n2" || who.Cluster != "sys" || who.Applied != 9 || len(who.Members) != 3 {
		t.Errorf("Identity() = %+v", who)
	}
	if _, err := client.NewNodeClient(c.members, "wrong", nil).Identity(t.Context(), "n2"); err == nil {
		t.Error("Identity() with a wrong token = nil, want an error")
	}
}

// F48: what a newcomer is asked with, at an address that anybody may name, opens nothing
// but the answer to who it is.
func TestIdentity_tokenGivesNoOrders(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var auth string
	stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { auth = r.Header.Get("Authorization") }))
	defer stranger.Close()
	host, port, err := net.SplitHostPort(stranger.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = client.NewNodeClient(c.members, token, nil).IdentityAt(t.Context(), pgcluster.Member{ID: "n9", Host: host, HTTPPort: number})
	if auth == "" {
		t.Fatal("the stranger was not asked")
	}
	for _, path := range []string{"/v1/node/orders", "/v1/node/lease", "/v1/node/confirm"} {
		if got := post(t, c.servers["n1"].URL+path, auth, `{"node":"n1"}`).StatusCode; got != http.StatusUnauthorized {
			t.Errorf("%s with what a stranger was told: status %d, want 401", path, got)
		}
	}
}

func TestOperator_isAName(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cl := c.client(t, "n2")
	cl.Operator("alice bob")
	_, err := cl.Switchover(t.Context(), "n3", "")
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Field != "X-Xpd-Operator" {
		t.Errorf("Switchover() = %v, want a problem with the header", err)
	}
}
