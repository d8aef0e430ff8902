package httpapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// nodeLease is the lease of one node of a cluster: only who leads grants one.
type nodeLease struct {
	c    *cluster
	self pgcluster.NodeID
}

func (l nodeLease) Grant(context.Context) (pgcluster.Grant, error) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.c.leads != l.self {
		return pgcluster.Grant{}, failover.ErrNotLeader
	}
	return pgcluster.Grant{Epoch: 4, For: 3 * time.Second, Alone: true, Source: pgcluster.GrantLeader}, nil
}

func (l nodeLease) Confirm(epoch uint64) error {
	if epoch < 4 {
		return pgcluster.ErrStaleOrder
	}
	return nil
}

func (l nodeLease) Left() time.Duration {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	return l.c.left
}

func TestLease_betweenNodes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	nodes := client.NewNodeClient(c.members, token, nil)
	got, err := nodes.Lease(t.Context(), "n2")
	if err != nil {
		t.Fatalf("Lease() = %v", err)
	}
	want := pgcluster.Grant{Epoch: 4, For: 3 * time.Second, Alone: true, Source: pgcluster.GrantLeader}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Lease() (-want +got):\n%s", diff)
	}
	if _, err := nodes.Lease(t.Context(), "n1"); !errors.Is(err, failover.ErrNotLeader) {
		t.Errorf("Lease() from a node that has none = %v, want ErrNotLeader", err)
	}
	if err := nodes.Confirm(t.Context(), "n3", 4); err != nil {
		t.Errorf("Confirm() = %v", err)
	}
	if err := nodes.Confirm(t.Context(), "n3", 3); !errors.Is(err, pgcluster.ErrStaleOrder) {
		t.Errorf("Confirm() of an epoch that has passed = %v, want ErrStaleOrder", err)
	}

	stranger := client.NewNodeClient(c.members, "guessed", nil)
	if _, err := stranger.Lease(t.Context(), "n2"); err == nil {
		t.Error("a stranger got a lease")
	}
	if err := stranger.Confirm(t.Context(), "n3", 4); err == nil {
		t.Error("a stranger got a confirmation")
	}
	// Another node answers at the address.
	moved := []pgcluster.Member{c.members[0], c.members[1], c.members[2]}
	moved[2].HTTPPort = c.members[1].HTTPPort
	if err := client.NewNodeClient(moved, token, nil).Confirm(t.Context(), "n3", 4); err == nil {
		t.Error("n2 confirmed for n3")
	}
}

// healthy is a view in which n1 is the open primary of epoch 4 and n2 and n3 stream,
// n3 with nobody waiting for it.
func healthy(v *failover.View) {
	for id, o := range v.Reports {
		o.At = v.Now - 100*time.Millisecond
		o.Report.Process = pgcluster.ProcessRunning
		o.Report.Role, o.Report.Followed, o.Report.Replayed = pgcluster.RoleStandby, 4, 1000
		o.Report.Receiver.Streaming = true
		if id == "n1" {
			o.Report.Role, o.Report.Led, o.Report.Open = pgcluster.RolePrimary, 4, 4
			o.Report.Position.LSN = 3048
			o.Report.Senders = []pgcluster.Sender{
				{Node: "n2", Streaming: true, SyncPriority: 1, ReplayLag: 900 * time.Millisecond},
				{Node: "n3", Streaming: true},
			}
		}
		v.Reports[id] = o
	}
}

// change returns healthy with the report of a node changed.
func change(id pgcluster.NodeID, f func(*pgcluster.Report)) func(*failover.View) {
	return func(v *failover.View) {
		healthy(v)
		o := v.Reports[id]
		f(&o.Report)
		v.Reports[id] = o
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	over := func(c *cluster) { c.left = 0 }
	broken := func(c *cluster) { c.failing = errors.New("definitions are not loaded yet") }
	see := func(f func(*failover.View)) func(*cluster) { return func(c *cluster) { c.see = f } }
	tests := []struct {
		name   string
		path   string
		node   pgcluster.NodeID
		change func(*cluster)
		status int
		text   string
	}{
		{"alive", "/live", "n1", over, 200, "live"},
		{"ready", "/ready", "n1", nil, 200, "ready"},
		{"not ready", "/ready", "n1", broken, 503, "definitions are not loaded"},
		{"primary", "/primary", "n1", nil, 200, "epoch 4"},
		{"primary without a lease", "/primary", "n1", over, 503, "no lease"},
		{"a standby is no primary", "/primary", "n2", nil, 503, "n1 is primary"},
		{"primary of an earlier epoch", "/primary", "n1", see(change("n1", func(r *pgcluster.Report) { r.Led, r.Open = 3, 3 })), 503, "not open yet"},
		{"primary that is closed", "/primary", "n1", see(change("n1", func(r *pgcluster.Report) { r.Open = 0 })), 503, "not open yet"},
		{"primary that crashed", "/primary", "n1", see(change("n1", func(r *pgcluster.Report) { r.Process = pgcluster.ProcessCrashed })), 503, "crashed"},
		{"primary that hangs", "/primary", "n1", see(change("n1", func(r *pgcluster.Report) { r.AnsweredAgo = time.Minute })), 503, "does not answer"},
		{"no primary is open", "/primary", "n1", func(c *cluster) { c.state.Primary.Access = failover.AccessClosed }, 503, "no primary is open"},
		{"replica", "/replica", "n2", nil, 200, "2048 bytes and 1s behind"},
		{"replica without a lease", "/replica", "n2", over, 503, "no lease"},
		{"the primary is no replica", "/replica", "n1", nil, 503, "no standby"},
		{"replica within a time", "/replica?lag=1s", "n2", nil, 200, "replica"},
		{"replica too old", "/replica?lag=999ms", "n2", nil, 503, "1s behind"},
		{"replica within a size", "/replica?lag=2kB", "n2", nil, 200, "replica"},
		{"replica too far behind", "/replica?lag=2047B", "n2", nil, 503, "2048 bytes"},
		{"a bound that is none", "/replica?lag=soon", "n2", nil, 422, "lag"},
		{"replica that is cut off", "/replica", "n2", see(change("n2", func(r *pgcluster.Report) { r.Receiver.Streaming = false })), 503, "does not stream"},
		{"replica of an earlier epoch", "/replica", "n2", see(change("n2", func(r *pgcluster.Report) { r.Followed = 3 })), 503, "does not stream"},
		{"replica that the primary does not know", "/replica", "n2", see(change("n1", func(r *pgcluster.Report) { r.Senders = nil })), 503, "does not stream"},
		{"replica of a primary that is silent", "/replica", "n2", see(func(v *failover.View) {
			healthy(v)
			o := v.Reports["n1"]
			o.At = v.Now - time.Minute
			v.Reports["n1"] = o
		}), 503, "not heard"},
		{"in the sync set", "/sync", "n2", nil, 200, "ANY 1 (n2, n3)"},
		{"nobody waits for it", "/sync", "n3", nil, 503, "do not wait"},
		{"the primary waits for itself", "/sync", "n1", nil, 503, "no standby"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.see = healthy
			if tt.change != nil {
				tt.change(c)
			}
			resp, err := http.Get(c.servers[tt.node].URL + tt.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			text := string(body)
			if resp.StatusCode != tt.status || !strings.Contains(text, tt.text) || strings.Count(text, "\n") != 1 {
				t.Errorf("%s of %s: %d %q, want %d and one line with %q", tt.path, tt.node, resp.StatusCode, text, tt.status, tt.text)
			}
		})
	}
}
