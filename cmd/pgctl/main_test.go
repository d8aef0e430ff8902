package main

import (
	stdbytes "bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/httpapi"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
)

var update = flag.Bool("update", false, "write the golden files")

// node is one xpd as pgctl sees it: the real routes over a state and a view that
// the test makes.
type node struct {
	self   pgcluster.NodeID
	leader pgcluster.NodeID
	view   failover.View
	lost   map[pgcluster.NodeID]time.Duration // for how long PostgreSQL was not reached

	running []pgcluster.RunningSetting // settings of its PostgreSQL
	secure  bool                       // its PostgreSQL wants TLS

	// switchover, if set, replaces the rules of package failover.
	switchover func() error
	// next, if set, moves the state on when it is read during an operation.
	next func(*failover.State)
	// read, if set, moves the state on whenever it is read.
	read func(*failover.State)

	mu    sync.Mutex
	state failover.State
}

// serve returns the URL of n.
func serve(t *testing.T, n *node) string {
	t.Helper()
	srv := httptest.NewServer(n.routes())
	t.Cleanup(srv.Close)
	return srv.URL
}

// routes are those of the real thing.
func (n *node) routes() http.Handler {
	r := chi.NewRouter()
	r.Group(httpapi.New(httpapi.Options{
		Self: n.self, Secure: n.secure, Members: n.state.Members, Policy: failover.DefaultPolicy(),
		Guard:  access.New(access.Options{Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()}), // asks nobody for a token
		Logger: slog.New(slog.DiscardHandler),
		State: func() (failover.State, uint64) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.next != nil && n.state.Op != nil {
				op := *n.state.Op
				n.state.Op = &op // what was answered before keeps what it had
				n.next(&n.state)
			}
			if n.read != nil {
				n.read(&n.state)
			}
			return n.state, 1
		},
		Agent:           agent{n},
		RunningSettings: func(context.Context) ([]pgcluster.RunningSetting, error) { return n.running, nil },
		Identify: func(_ context.Context, m pgcluster.Member) (pgcluster.Identity, error) {
			return pgcluster.Identity{Node: m.ID}, nil
		},
		View:    n.seen,
		Leader:  func() pgcluster.NodeID { return n.leader },
		Servers: n.servers,
		Lost:    func() map[pgcluster.NodeID]time.Duration { return n.lost },
		Change:  n.decide,
	}))
	return r
}

// seen is the view of this moment; what changes it replaces its reports.
func (n *node) seen() failover.View {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.view
}

// servers are the members: all of them vote.
func (n *node) servers() []failover.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []failover.Server
	for _, m := range n.state.Members {
		out = append(out, failover.Server{ID: m.ID, Addr: m.RaftAddr(), Voter: true})
	}
	return out
}

// decide changes the state as a leader does.
func (n *node) decide(_ context.Context, f func(failover.State, failover.View) (failover.State, error)) (failover.State, error) {
	if n.switchover != nil {
		return failover.State{}, n.switchover()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := f(n.state, n.view)
	if err == nil {
		n.state = s
	}
	return s, err
}

var (
	wall = time.Date(2026, 11, 21, 3, 14, 15, 926e6, time.UTC)
	now  = time.Hour // of views
)

// healthy is n1 leading n2 and n3, seen by n2, which leads the Raft group.
func healthy(t *testing.T) *node {
	t.Helper()
	// Nobody listens there: pgctl asks them when the node it knows is alone.
	members, err := pgcluster.ParseMembers("n1=127.0.0.1:1:2:5432,n2=127.0.0.1:3:4:5433,n3=[::1]:1:2:5432")
	if err != nil {
		t.Fatal(err)
	}
	primary := pgcluster.Report{
		Node: "n1", Process: pgcluster.ProcessRunning, Role: pgcluster.RolePrimary, PositionKnown: true,
		Position: pgcluster.Position{Timeline: 3, LSN: 0x16_B374D848}, Open: 4, Led: 4, Pledged: pgcluster.Stamp{Epoch: 4},
		SyncNames: "ANY 1 (n2, n3)", Barrier: 4,
		Senders: []pgcluster.Sender{
			{Node: "n2", Streaming: true, SyncPriority: 1, Flushed: 0x16_B374D848, Replayed: 0x16_B374D848, ReplayLag: 312 * time.Microsecond},
			{Node: "n3", Streaming: true, SyncPriority: 1, Flushed: 0x16_B374C048, Replayed: 0x16_B374C048, ReplayLag: 1250 * time.Millisecond},
		},
	}
	standby := func(id pgcluster.NodeID, lsn pgcluster.LSN) pgcluster.Report {
		return pgcluster.Report{
			Node: id, Process: pgcluster.ProcessRunning, Role: pgcluster.RoleStandby, PositionKnown: true,
			Position: pgcluster.Position{Timeline: 3, LSN: lsn}, Followed: 4,
			Receiver: pgcluster.Receiver{Upstream: "n1", Streaming: true},
		}
	}
	return &node{
		self: "n2", leader: "n2",
		state: failover.State{
			Members: members, SystemID: "7312345678901234567",
			Primary: failover.Primary{Node: "n1", Epoch: 4, Access: failover.AccessOpen},
			Sync:    failover.Sync{Durable: pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2", "n3"}, K: 1}},
		},
		view: failover.View{Now: now, Wall: wall, Reports: map[pgcluster.NodeID]failover.Observation{
			"n1": {Report: primary, At: now - 120*time.Millisecond},
			"n2": {Report: standby("n2", 0x16_B374D848), At: now - 10*time.Millisecond},
			"n3": {Report: standby("n3", 0x16_B374C048), At: now - 200*time.Millisecond},
		}},
	}
}

// silence makes id unheard of for d.
func (n *node) silence(id pgcluster.NodeID, d time.Duration) {
	o := n.view.Reports[id]
	o.At = now - d
	n.view.Reports[id] = o
}

// change edits the report of id.
func (n *node) change(id pgcluster.NodeID, edit func(*pgcluster.Report)) {
	o := n.view.Reports[id]
	edit(&o.Report)
	n.view.Reports[id] = o
}

// result is what a run of pgctl left behind.
type result struct {
	out, err string
	code     int
}

func pgctl(ctx context.Context, url string, in io.Reader, args ...string) result {
	var out, errOut stdbytes.Buffer
	err := run(ctx, append([]string{"--server", url, "--operator", "dba"}, args...), in, &out, &errOut)
	code := exitCode(err, &errOut)
	return result{out.String(), errOut.String(), code}
}

// transcript shows a result as a terminal would, the streams apart.
func (r result) transcript(args ...string) string {
	var b strings.Builder
	b.WriteString("$ pgctl " + strings.Join(args, " ") + "\n" + r.out)
	if r.err != "" {
		b.WriteString("--- stderr\n" + r.err)
	}
	b.WriteString("--- exit code " + string(rune('0'+r.code)) + "\n")
	return b.String()
}

// golden compares got with testdata/name, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); go test ./cmd/pgctl -update accepts it:\n%s", name, diff)
	}
}

// TestGoldens_fitATerminal exempts what must be copied as it is: strings to connect
// with, JSON, and a word that is longer than a line (a path, most likely).
func TestGoldens_fitATerminal(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		// Whoever answers types the end of that line.
		shown := strings.ReplaceAll(string(text), "[y/N] ", "[y/N]\n")
		for i, line := range strings.Split(shown, "\n") {
			copied := strings.Contains(line, "postgresql://") || strings.HasPrefix(line, "$ ") || !strings.Contains(strings.TrimSpace(line), " ")
			if n := utf8.RuneCountInString(line); n > width && !copied {
				t.Errorf("%s:%d: %d columns, at most %d: %s", f, i+1, n, width, line)
			}
			if strings.TrimRight(line, " ") != line {
				t.Errorf("%s:%d: blanks at the end", f, i+1)
			}
		}
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		code int
		said string
	}{
		{"nothing went wrong", nil, 0, ""},
		{"the table has said it", exitError{code: exitNoWrites}, 2, ""},
		{"nobody answered", exitError{exitUnknown, errors.New("no xpd answered")}, 3, "pgctl: no xpd answered\n"},
		{"anything else", io.ErrUnexpectedEOF, 4, "pgctl: unexpected EOF\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var said strings.Builder
			if code := exitCode(tt.err, &said); code != tt.code || said.String() != tt.said {
				t.Errorf("exitCode() = %d, %q; want %d, %q", code, said.String(), tt.code, tt.said)
			}
		})
	}
}

func TestRun_usage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"statsu"}, {"status", "--nonsense"}, {"history", "--limit", "many"}} {
		got := pgctl(t.Context(), "127.0.0.1:1", nil, args...)
		if got.code != exitFailed || got.out != "" || !strings.Contains(got.err, "pgctl --help") {
			t.Errorf("pgctl %v = %+v, want exit code 4 and a hint", args, got)
		}
	}
}
