package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// situations are what a DBA may find, by the name of the golden file.
var situations = map[string]struct {
	change func(*node)
	code   int
}{
	"ok": {func(*node) {}, exitOK},
	"standby_lost": {func(n *node) {
		n.silence("n3", 3*time.Hour)
		n.change("n1", func(r *pgcluster.Report) { r.Senders = r.Senders[:1] })
		n.state.Sync.Durable = n.state.Sync.Durable.Without("n3")
	}, exitDegraded},
	"standby_never_seen": {func(n *node) {
		delete(n.view.Reports, "n3")
		n.change("n1", func(r *pgcluster.Report) { r.Senders = r.Senders[:1] })
	}, exitDegraded},
	"standby_outside_the_sync_set": {func(n *node) {
		n.state.Sync.Durable = n.state.Sync.Durable.Without("n3")
	}, exitDegraded},
	"long_notes": {func(n *node) {
		n.change("n3", func(r *pgcluster.Report) {
			r.Process, r.Role, r.Position = pgcluster.ProcessCrashed, pgcluster.RolePrimary, pgcluster.Position{Timeline: 2}
			r.PositionKnown, r.Receiver = false, pgcluster.Receiver{}
			r.LastError = `FATAL:  could not write lock file "postmaster.pid": No space left on device; the folder of the data is /var/lib/xpd/n3/pg/data`
			r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderFollow, Step: "rewinding to n1", Error: "pg_rewind: exit status 1"}
			r.Stopping = true
		})
		n.change("n1", func(r *pgcluster.Report) { r.Senders = r.Senders[:1] })
	}, exitDegraded},
	"long_names": {longNames, exitDegraded},
	"failover_recruits": {func(n *node) {
		// n1 and n3 are gone: n2 alone may not have every acknowledged commit.
		n.silence("n1", 4200*time.Millisecond)
		n.silence("n3", 51*time.Hour)
		n.change("n2", func(r *pgcluster.Report) { r.Receiver, r.Recruited = pgcluster.Receiver{}, 5 })
		n.state.Primary.Access = failover.AccessClosed
		n.state.Op = &failover.Operation{
			ID: 7, Kind: failover.KindFailover, Epoch: 5, Phase: failover.PhaseRecruit, From: "n1",
			Reason: "n1 silent for 1.6s and no standby hears its PostgreSQL", Began: wall,
			Steps: []failover.PhaseTime{{Phase: failover.PhaseRecruit, Epoch: 5, At: wall}},
		}
	}, exitNoWrites},
	"failover_promotes": {func(n *node) {
		n.change("n1", func(r *pgcluster.Report) {
			r.Process, r.PositionKnown, r.Senders = pgcluster.ProcessCrashed, false, nil
		})
		n.change("n2", func(r *pgcluster.Report) { r.Role, r.Receiver = pgcluster.RolePrimary, pgcluster.Receiver{} })
		n.state.Primary.Access = failover.AccessClosed
		n.state.Op = &failover.Operation{
			ID: 7, Kind: failover.KindFailover, Epoch: 5, Phase: failover.PhasePromote, From: "n1", To: "n2",
			Reason: "PostgreSQL on n1 crashed", Began: wall,
		}
	}, exitNoWrites},
	"sync_standbys_stopped": {func(n *node) {
		for _, id := range []pgcluster.NodeID{"n2", "n3"} {
			n.change(id, func(r *pgcluster.Report) { r.Process, r.Receiver = pgcluster.ProcessStopped, pgcluster.Receiver{} })
		}
		n.change("n1", func(r *pgcluster.Report) { r.Senders = nil })
	}, exitNoWrites},
	"not_started": {func(n *node) {
		n.state = failover.State{Members: n.state.Members}
		n.view.Reports = map[pgcluster.NodeID]failover.Observation{
			"n2": {Report: pgcluster.Report{Node: "n2", Process: pgcluster.ProcessStopped, Role: pgcluster.RoleNone}, At: now},
		}
	}, exitNoWrites},
	"paused": {func(n *node) {
		n.state.Paused = &failover.Pause{Until: wall.Add(time.Hour), Reason: "the cables of the second rack are moved to another switch (by alice@example)"}
	}, exitDegraded},
	"paused_and_primary_crashed": {func(n *node) {
		n.state.Paused = &failover.Pause{Until: wall.Add(time.Hour), Reason: "moving cables"}
		n.change("n1", func(r *pgcluster.Report) {
			r.Process, r.PositionKnown, r.Senders, r.Open = pgcluster.ProcessCrashed, false, nil, 0
		})
	}, exitNoWrites},
	"witness": {func(n *node) {
		n.state.Members[2].Witness = true
		n.change("n3", func(r *pgcluster.Report) {
			*r = pgcluster.Report{Node: "n3", Process: pgcluster.ProcessStopped, Role: pgcluster.RoleNone}
		})
		n.change("n1", func(r *pgcluster.Report) { r.Senders = r.Senders[:1] })
		n.state.Sync.Durable = n.state.Sync.Durable.Without("n3")
	}, exitDegraded},
	"no_leader_others_silent": {func(n *node) {
		n.self, n.leader = "n1", ""
		n.silence("n2", 95*time.Second)
		n.silence("n3", 12*time.Minute)
		n.change("n1", func(r *pgcluster.Report) { r.Senders = nil })
	}, exitUnknown},
	"no_leader": {func(n *node) { n.leader = "" }, exitUnknown},
	"leader_silent": {func(n *node) {
		n.self, n.leader = "n3", "n2"
		n.silence("n2", 1800*time.Millisecond)
	}, exitUnknown},
}

// longNames gives the nodes the longest names that there can be, and n3 a crash.
func longNames(n *node) {
	n.change("n3", func(r *pgcluster.Report) {
		r.Process, r.Role, r.Receiver = pgcluster.ProcessCrashed, pgcluster.RolePrimary, pgcluster.Receiver{}
	})
	names := strings.NewReplacer("n1", "database_of_rack_a_in_berlin_01", "n2", "database_of_rack_b_in_berlin_02", "n3", "database_of_rack_a_in_prague_03")
	rename(names, &n.self)
	rename(names, &n.leader)
	rename(names, &n.state)
	rename(names, &n.view.Reports)
}

func rename(names *strings.Replacer, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if m, ok := v.(*map[pgcluster.NodeID]failover.Observation); ok {
		*m = nil // else the old keys stay
	}
	if err := json.Unmarshal([]byte(names.Replace(string(text))), v); err != nil {
		panic(err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for name, tt := range situations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := healthy(t)
			tt.change(n)
			got := pgctl(t.Context(), serve(t, n), nil, "status")
			if got.code != tt.code {
				t.Errorf("exit code = %d, want %d", got.code, tt.code)
			}
			golden(t, "status_"+name+".txt", got.transcript("status"))
		})
	}
}

func TestStatus_json(t *testing.T) {
	t.Parallel()
	n := healthy(t)
	situations["long_notes"].change(n)
	url := serve(t, n)
	got := pgctl(t.Context(), url, nil, "status", "--json")
	if got.code != exitDegraded || got.err != "" {
		t.Errorf("exit code %d, stderr %q", got.code, got.err)
	}
	var printed client.Cluster
	if err := json.Unmarshal([]byte(got.out), &printed); err != nil {
		t.Fatalf("output is not JSON: %v\n%s", err, got.out)
	}
	want := client.Cluster{
		Status: failover.Explain(n.state, n.view, failover.DefaultPolicy()), Leader: "n2", SeenBy: "n2", Confirmed: true,
		Members: []client.ClusterMember{
			{ID: "n1", HTTP: "127.0.0.1:1", Postgres: "127.0.0.1:5432", Raft: "127.0.0.1:2", Voter: true},
			{ID: "n2", HTTP: "127.0.0.1:3", Postgres: "127.0.0.1:5433", Raft: "127.0.0.1:4", Voter: true},
			{ID: "n3", HTTP: "[::1]:1", Postgres: "[::1]:5432", Raft: "[::1]:2", Voter: true},
		},
	}
	if diff := cmp.Diff(want, printed); diff != "" {
		t.Errorf("status --json (-want +printed):\n%s", diff)
	}
}

// A node that was cut off must not have the last word.
func TestStatus_asksWhoKnowsBetter(t *testing.T) {
	t.Parallel()
	majority := healthy(t)
	alone := healthy(t)
	alone.self, alone.leader = "n1", ""
	alone.silence("n2", time.Minute)
	alone.silence("n3", time.Minute)
	host, port, err := net.SplitHostPort(strings.TrimPrefix(serve(t, majority), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	alone.state.Members, err = pgcluster.ParseMembers("n1=127.0.0.1:1:2:5432,n2=" + host + ":" + port + ":4:5433,n3=127.0.0.1:5:6:7")
	if err != nil {
		t.Fatal(err)
	}
	got := pgctl(t.Context(), serve(t, alone), nil, "status")
	if got.code != exitOK || !strings.Contains(got.out, "seen by n2; Raft leader n2\n") {
		t.Errorf("status = %d\n%s, want what n2 sees", got.code, got.out)
	}
}

func TestUnanswered(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"status"}, {"history"}, {"dsn"}, {"switchover"}} {
		got := pgctl(t.Context(), "127.0.0.1:1,[::1]:1", strings.NewReader("y\n"), append(args, "--timeout", "100ms")...)
		if got.code != exitUnknown || got.out != "" ||
			!strings.HasPrefix(got.err, "pgctl: no xpd answered at http://127.0.0.1:1, http://[::1]:1: ") ||
			!strings.HasSuffix(got.err, "\nStart xpd there, or name other nodes with --server\n") {
			t.Errorf("pgctl %v = %d, out %q, stderr %q", args, got.code, got.out, got.err)
		}
	}
}

// TestStatus_notAnXpd: a web server at that port is no cluster without writes.
func TestStatus_notAnXpd(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	got := pgctl(t.Context(), srv.URL, nil, "status")
	if got.code != exitUnknown || !strings.Contains(got.err, "but something did") || !strings.HasSuffix(got.err, "\nName an xpd with --server\n") {
		t.Errorf("exit code %d, stderr %q", got.code, got.err)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	tests := []struct {
		d    time.Duration
		want string
	}{
		{-1, "?"},
		{0, "0.0s"},
		{1250 * time.Millisecond, "1.2s"},
		{99 * time.Second, "99.0s"},
		{100 * time.Second, "1m"},
		{99 * time.Minute, "99m"},
		{100 * time.Minute, "1h"},
		{47 * time.Hour, "47h"},
		{1000 * time.Hour, "41d"},
	}
	for _, tt := range tests {
		if got := duration(tt.d); got != tt.want {
			t.Errorf("duration(%v) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		-1: "?", 0: "0 B", 1023: "1023 B", 1024: "1 kB", 1<<20 - 1: "1023 kB", 16 << 20: "16 MB", 3 << 40: "3072 GB",
	} {
		if got := bytes(n); got != want {
			t.Errorf("bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

type brokenWriter struct{}

var errBroken = errors.New("broken pipe")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// A status that could not be printed must not look like one that was.
func TestStatus_outputFails(t *testing.T) {
	t.Parallel()
	url := serve(t, healthy(t))
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"dsn"}} {
		err := run(t.Context(), append([]string{"--server", url}, args...), nil, brokenWriter{}, brokenWriter{})
		if !errors.Is(err, errBroken) {
			t.Errorf("pgctl %v = %v, want %v", args, err, errBroken)
		}
	}
}
