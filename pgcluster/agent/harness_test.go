package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

const patience = time.Minute

// node is one agent under test, with its orders' epoch counted by hand.
type node struct {
	*agent.Agent

	t     *testing.T
	o     agent.Options
	m     pgcluster.Member
	stop  context.CancelFunc
	ended chan error
}

// newNodes starts n agents on loopback, without data.
func newNodes(t *testing.T, n int) []*node {
	t.Helper()
	return newNodesWith(t, n, func(*agent.Options) {})
}

// newNodesWith is newNodes with other options.
func newNodesWith(t *testing.T, n int, change func(*agent.Options)) []*node {
	t.Helper()
	bin := pgtest.BinDir(t)
	dir := pgtest.Dir(t)
	var members []pgcluster.Member
	for i, port := range pgtest.FreePorts(t, n) {
		members = append(members, pgcluster.Member{ID: pgcluster.NodeID(fmt.Sprintf("n%d", i+1)), Host: "127.0.0.1", PGPort: port})
	}
	var nodes []*node
	for _, m := range members {
		home := filepath.Join(dir, string(m.ID))
		if err := os.Mkdir(home, 0o755); err != nil {
			t.Fatal(err)
		}
		nd := &node{t: t, m: m, o: agent.Options{
			Node: m.ID, Members: members, Dir: home, BinDir: bin, OSUser: pgtest.OSUser(),
			Secrets: agent.Secrets{Admin: "adm'in:\\", Replication: "re:pl\\'", Service: "service"},
			Settings: map[string]string{
				"shared_buffers": "16MB", "wal_keep_size": "0", "min_wal_size": "32MB", "max_wal_size": "64MB",
			},
			Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		}}
		change(&nd.o)
		nd.start()
		t.Cleanup(func() { nd.end(true) })
		nodes = append(nodes, nd)
	}
	return nodes
}

// start makes an agent and runs it, as xpd does when it starts.
func (n *node) start() {
	n.t.Helper()
	n.o.Registry = prometheus.NewRegistry()
	a, err := agent.New(n.o)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.Agent, n.stop, n.ended = a, cancel, make(chan error, 1)
	go func() { n.ended <- a.Run(ctx) }()
}

// end stops the agent and leaves its PostgreSQL running; as the last thing of a
// test, it stops that too.
func (n *node) end(last bool) {
	n.stop()
	if err := <-n.ended; err != nil {
		n.t.Errorf("%s: Run: %v", n.m.ID, err)
	}
	if last {
		n.kill9()
		close(n.ended)
	}
}

// kill9 kills the postmaster, if there is one.
func (n *node) kill9() {
	if pid, ok := n.postmaster(); ok {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
}

func (n *node) postmaster() (int, bool) {
	b, err := os.ReadFile(filepath.Join(n.o.Dir, "pg", "data", "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.SplitN(string(b), "\n", 2)[0])
	return pid, err == nil
}

// await waits for a report that ok accepts.
func (n *node) await(what string, ok func(pgcluster.Report) bool) pgcluster.Report {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	r := n.Report()
	for !ok(r) {
		// Positions change without a new Seq, hence the short wait.
		short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
		r = n.Changed(short, r.Seq)
		stop()
		if ctx.Err() != nil {
			n.t.Fatalf("%s: no %s within %v; last report %+v", n.m.ID, what, patience, r)
		}
	}
	return r
}

func (n *node) submit(o pgcluster.Order) {
	n.t.Helper()
	o.Node = n.m.ID
	if err := n.Submit(n.t.Context(), o); err != nil {
		n.t.Fatalf("%s: Submit(%s): %v", n.m.ID, o.Kind, err)
	}
}

// do submits an order and waits until it is done.
func (n *node) do(o pgcluster.Order) pgcluster.Report {
	n.t.Helper()
	n.submit(o)
	return n.await(string(o.Kind)+" done", func(r pgcluster.Report) bool {
		return r.Order.Kind == o.Kind && r.Order.Stamp == o.Stamp && r.Order.Done
	})
}

// connect opens a connection that the test closes.
func (n *node) connect(user, password, database string) *pgx.Conn {
	n.t.Helper()
	conn, err := pgx.Connect(n.t.Context(), n.dsn(user, password, database))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (n *node) dsn(user, password, database string) string {
	return fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s sslmode=disable",
		n.m.Host, n.m.PGPort, user, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password), database)
}

// service connects as the application does.
func (n *node) service() *pgx.Conn {
	n.t.Helper()
	return n.connect(agent.ServiceRole, n.o.Secrets.Service, agent.Database)
}

func (n *node) admin() *pgx.Conn {
	n.t.Helper()
	return n.connect(agent.AdminRole, n.o.Secrets.Admin, "postgres")
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func stamp(epoch, index uint64) pgcluster.Stamp {
	return pgcluster.Stamp{Epoch: epoch, Term: 1, Index: index}
}

func anyOf(k int, members ...pgcluster.NodeID) pgcluster.SyncSet {
	return pgcluster.SyncSet{Members: members, K: k}
}

// initialized makes nodes[0] the open primary of epoch 1 and the others its
// standbys. Commits wait for one of them if sync is set.
func initialized(t *testing.T, n int, sync bool) []*node {
	t.Helper()
	nodes := newNodes(t, n)
	initialize(nodes, sync)
	return nodes
}

// initialize does what initialized says with nodes that are there.
func initialize(nodes []*node, sync bool) {
	first := nodes[0]
	first.t.Helper()
	r := first.do(pgcluster.Order{Kind: pgcluster.OrderInit, Stamp: stamp(1, 1)})
	set := pgcluster.SyncSet{}
	for i, nd := range nodes[1:] {
		nd.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(1, uint64(2+i)), SystemID: r.SystemID, Upstream: first.m.ID})
		set = set.With(nd.m.ID)
	}
	if sync {
		set.K = 1
	}
	first.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 10), SystemID: r.SystemID, Sync: set, Barrier: true, Open: true})
}

func (n *node) tryService() (*pgx.Conn, error) {
	return pgx.Connect(n.t.Context(), n.dsn(agent.ServiceRole, n.o.Secrets.Service, agent.Database))
}

// caughtUp accepts a report that has replayed what of has flushed by now.
func caughtUp(of *node) func(pgcluster.Report) bool {
	target, err := pgcluster.ParseLSN(query[string](of.t, of.admin(), "SELECT pg_current_wal_flush_lsn()::text"))
	if err != nil {
		of.t.Fatal(err)
	}
	return func(r pgcluster.Report) bool { return r.Replayed >= target }
}

// diverge commits a row on a primary that has lost its standbys.
func diverge(t *testing.T, n *node) {
	t.Helper()
	admin := n.connect(agent.AdminRole, n.o.Secrets.Admin, agent.Database)
	exec(t, admin, "SET synchronous_commit = local")
	exec(t, admin, "SET default_transaction_read_only = off")
	exec(t, admin, "INSERT INTO t VALUES (100)")
}

func itoa(n int) string { return strconv.Itoa(n) }

// waiter waits for a backend, other than the one given, that waits for a standby.
func waiter(t *testing.T, admin *pgx.Conn, other int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		var pid int
		err := admin.QueryRow(ctx, `SELECT coalesce(max(pid), 0) FROM pg_stat_activity
			WHERE wait_event = 'SyncRep' AND pid <> $1`, other).Scan(&pid)
		if err != nil {
			t.Fatal(err)
		}
		if pid != 0 {
			return pid
		}
	}
}
