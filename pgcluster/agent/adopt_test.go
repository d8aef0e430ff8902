package agent_test

import (
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
)

// asPostgres runs one of PostgreSQL's programs as its user.
func asPostgres(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), filepath.Join(pgtest.BinDir(t), name), args...)
	cmd.Dir = os.TempDir()
	cred, err := pgtest.Credential()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// shop is a PostgreSQL that a DBA has set up: a primary, and a standby if asked for.
type shop struct {
	dir  string
	dsn  string
	data []string
}

func newShop(t *testing.T, ports []int) shop {
	t.Helper()
	dir := pgtest.Dir(t)
	s := shop{dir: dir, dsn: fmt.Sprintf("host=127.0.0.1 port=%d dbname=shop user=shop password=secret sslmode=disable", ports[0])}
	primary := filepath.Join(dir, "main")
	asPostgres(t, "initdb", "-D", primary, "-U", "dba", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256")
	write := func(path, content string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(primary, "postgresql.conf"), "work_mem = 7MB\nshared_buffers = 20MB\nfsync = off\nwal_keep_size = 64MB\n")
	write(filepath.Join(primary, "pg_hba.conf"), "host shop shop 127.0.0.1/32 scram-sha-256\n")
	for i, port := range ports {
		data := primary
		if i > 0 {
			data = filepath.Join(dir, fmt.Sprintf("standby%d", i))
			asPostgres(t, "pg_basebackup", "-D", data, "-d", s.local("user=dba", ports[0]), "-R", "--checkpoint=fast")
		}
		s.data = append(s.data, data)
		asPostgres(t, "pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, fmt.Sprintf("log%d", i)),
			"-o", fmt.Sprintf("-c port=%d -c listen_addresses=127.0.0.1 -c unix_socket_directories=%s", port, dir), "start")
		if i > 0 {
			continue
		}
		admin := s.connect(t, s.local("user=dba dbname=postgres", port))
		exec(t, admin, "CREATE ROLE shop LOGIN PASSWORD 'secret'")
		exec(t, admin, "CREATE DATABASE shop OWNER shop")
		exec(t, admin, "ALTER SYSTEM SET maintenance_work_mem = '33MB'")
		exec(t, admin, "ALTER SYSTEM SET synchronous_commit = off")
		exec(t, s.connect(t, s.dsn), "CREATE TABLE orders AS SELECT generate_series(1, 1000) id")
	}
	return s
}

func (s shop) local(more string, port int) string {
	return fmt.Sprintf("host=%s port=%d %s", s.dir, port, more)
}

func (s shop) connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func versionInode(t *testing.T, data string) uint64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// adopting restarts the agents so that each finds the data of the shop.
func adopting(nodes []*node, s shop) {
	for i, n := range nodes {
		n.end(false)
		n.o.Settings = nil
		if i < len(s.data) {
			n.o.DataDir, n.o.Adopt = s.data[i], true
		}
		n.start()
	}
}

func TestAgent_adoptsAPrimaryAndItsStandbyInPlace(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 3)
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	s := newShop(t, []int{n1.m.PGPort, n2.m.PGPort})
	before := []uint64{versionInode(t, s.data[0]), versionInode(t, s.data[1])}
	adopting(nodes, s)

	found := func(role pgcluster.Role) func(pgcluster.Report) bool {
		return func(r pgcluster.Report) bool {
			return r.Process == pgcluster.ProcessForeign && r.Role == role && r.SystemID != ""
		}
	}
	system := n1.await("the primary", found(pgcluster.RolePrimary)).SystemID
	n2.await("the standby", found(pgcluster.RoleStandby))
	if got := query[int](t, s.connect(t, s.dsn), "SELECT count(*)::int FROM orders"); got != 1000 {
		t.Fatalf("%d orders before the first order", got)
	}

	n1.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 1), SystemID: system})
	for i, n := range nodes[1:] {
		n.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(1, uint64(2+i)), SystemID: system, Upstream: "n1"})
	}
	r := n1.do(pgcluster.Order{
		Kind: pgcluster.OrderLead, Stamp: stamp(1, 9), SystemID: system, Sync: anyOf(1, "n2", "n3"), Barrier: true, Open: true,
	})
	if r.SystemID != system || r.Open != 1 {
		t.Errorf("adopted primary: %+v", r)
	}
	for i, n := range nodes[:2] {
		if versionInode(t, s.data[i]) != before[i] {
			t.Errorf("%s was copied", n.m.ID)
		}
	}
	shopping := s.connect(t, s.dsn)
	exec(t, shopping, "INSERT INTO orders VALUES (1001)")
	for _, n := range nodes {
		for name, want := range map[string]string{
			"work_mem": "7MB", "shared_buffers": "20MB", "maintenance_work_mem": "33MB", "fsync": "on", "synchronous_commit": "on",
		} {
			n.awaitShow(name, want)
		}
	}
	for _, n := range []*node{n2, n3} {
		n.await("replay", caughtUp(n1))
		orders := n.connect("shop", "secret", "shop")
		if got := query[int](t, orders, "SELECT count(*)::int FROM orders"); got != 1001 {
			t.Errorf("%s has %d orders", n.m.ID, got)
		}
	}
	exec(t, n1.service(), "CREATE TABLE t (v int)")

	// Without the flag, and after a failover, it is the same data.
	n2.end(false)
	n2.o.DataDir, n2.o.Adopt = "", false
	n2.start()
	n2.await("the adopted standby", func(r pgcluster.Report) bool { return r.Running() && r.SystemID == system })
	n1.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 1)})
	n2.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 2), SystemID: system})
	n1.do(pgcluster.Order{
		Kind: pgcluster.OrderFollow, Stamp: stamp(2, 3), SystemID: system, Upstream: "n2", Lineage: n2.Report().Lineage,
	})
	if versionInode(t, s.data[0]) != before[0] {
		t.Error("n1 was copied when it rejoined")
	}
}

// A unit manager that starts the adopted server with its former configuration makes a
// primary that knows nothing of epochs.
func TestAgent_stopsWhoIsStartedOnItsData(t *testing.T) {
	t.Parallel()
	n := newNodes(t, 1)[0]
	s := newShop(t, []int{n.m.PGPort})
	adopting([]*node{n}, s)
	n.await("the primary", func(r pgcluster.Report) bool {
		return r.Process == pgcluster.ProcessForeign && r.Role == pgcluster.RolePrimary
	})
	n.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 1), Barrier: true, Open: true})
	n.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 1)})
	n.end(false)
	asPostgres(t, "pg_ctl", "-D", s.data[0], "-w", "-l", filepath.Join(s.dir, "log"),
		"-o", fmt.Sprintf("-c port=%d -c listen_addresses=127.0.0.1 -c unix_socket_directories=%s", n.m.PGPort, s.dir), "start")
	n.start()
	n.await("its end", func(r pgcluster.Report) bool { return r.Process == pgcluster.ProcessStopped && r.SystemID != "" })
	n.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(3, 1), Barrier: true, Open: true})
	n.awaitShow("fsync", "on")
}
