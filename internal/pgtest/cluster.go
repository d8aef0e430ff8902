package pgtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Cluster is a primary and its streaming standbys, numbered from 0, which is the
// primary at first. Nothing watches over it: the test kills, promotes and
// re-points. Its methods fail the test on an error; they are not to be called
// for one server from several goroutines.
type Cluster struct {
	t       testing.TB
	servers []*server
	members []pgcluster.Member
}

// NewCluster starts n servers on loopback and returns once all standbys stream.
// Replication is asynchronous until SetSync. Everything is gone when the test
// ends.
func NewCluster(tb testing.TB, n int) *Cluster {
	tb.Helper()
	dir := Dir(tb)
	c := &Cluster{t: tb}
	for i, port := range FreePorts(tb, n) {
		id := pgcluster.NodeID(fmt.Sprintf("n%d", i+1))
		c.members = append(c.members, pgcluster.Member{ID: id, Host: "127.0.0.1", PGPort: port})
		s, err := newServer(dir, string(id), c.dsn(i),
			"listen_addresses = '127.0.0.1'", "port = "+strconv.Itoa(port), "unix_socket_directories = ''",
			"wal_keep_size = 128MB", "wal_retrieve_retry_interval = 100ms", "restart_after_crash = off",
			"cluster_name = "+string(id), "primary_conninfo = '"+c.conninfo(0, i)+"'")
		if err != nil {
			tb.Fatalf("prepare %s: %v", id, err)
		}
		c.servers = append(c.servers, s)
		if i > 0 {
			// A copy of a cleanly stopped primary is a standby.
			if err := os.WriteFile(filepath.Join(s.data, "standby.signal"), nil, 0o644); err != nil {
				tb.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	var g errgroup.Group
	for _, s := range c.servers {
		g.Go(func() error { return s.start(ctx) })
	}
	if err := g.Wait(); err != nil {
		tb.Fatal(err)
	}
	c.WaitUntil(0, "SELECT count(*) = $1 FROM pg_stat_replication WHERE state = 'streaming'", n-1)
	return c
}

// Members returns the servers as the cluster's nodes n1, n2 and so on; server i
// is the member at index i. They have no HTTP and Raft ports.
func (c *Cluster) Members() []pgcluster.Member { return c.members }

// DSN returns a connection string for the superuser in server i's database
// postgres.
func (c *Cluster) DSN(i int) string { return c.servers[i].dsn }

// Exec runs SQL on server i in a session of its own.
func (c *Cluster) Exec(i int, sql string, args ...any) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := c.servers[i].exec(ctx, sql, args...); err != nil {
		c.t.Fatalf("%s: %s: %v", c.members[i].ID, sql, err)
	}
}

// WaitUntil returns once a query on server i, in a session of its own, returns
// true.
func (c *Cluster) WaitUntil(i int, sql string, args ...any) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.DSN(i))
	if err != nil {
		c.t.Fatalf("%s: %v", c.members[i].ID, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = poll(ctx, func() (bool, error) {
		var ok bool
		err := conn.QueryRow(ctx, sql, args...).Scan(&ok)
		return ok, err
	})
	if err != nil {
		c.t.Fatalf("%s: wait until %s, %v: %v", c.members[i].ID, sql, args, err)
	}
}

// SetSync puts names into force as synchronous_standby_names of server i. The
// names of standbys are n1, n2 and so on.
func (c *Cluster) SetSync(i int, names string) {
	c.t.Helper()
	c.alter(i, "synchronous_standby_names", names)
}

// Promote makes server i a primary and returns once it takes writes.
func (c *Cluster) Promote(i int) {
	c.t.Helper()
	c.Exec(i, "SELECT pg_promote(false)")
	c.WaitUntil(i, "SELECT NOT pg_is_in_recovery()")
}

// Follow makes standby i stream from server upstream and returns once it does.
func (c *Cluster) Follow(i, upstream int) {
	c.t.Helper()
	c.alter(i, "primary_conninfo", c.conninfo(upstream, i))
	c.WaitUntil(upstream, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming' AND application_name = $1", string(c.members[i].ID))
}

// Kill9 kills all processes of server i with SIGKILL, its postmaster first.
func (c *Cluster) Kill9(i int) { c.t.Helper(); c.do(i, (*server).kill9) }

// Stop shuts server i down cleanly; its clients are disconnected.
func (c *Cluster) Stop(i int) { c.t.Helper(); c.do(i, (*server).stop) }

// Start starts server i again as what it was.
func (c *Cluster) Start(i int) { c.t.Helper(); c.do(i, (*server).start) }

func (c *Cluster) do(i int, f func(*server, context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := f(c.servers[i], ctx); err != nil {
		c.t.Fatalf("%s: %v", c.members[i].ID, err)
	}
}

// alter changes a setting of server i and waits until new sessions see it.
func (c *Cluster) alter(i int, setting, value string) {
	c.t.Helper()
	quoted := "'" + value + "'"
	c.Exec(i, "ALTER SYSTEM SET "+pgx.Identifier{setting}.Sanitize()+" = "+quoted)
	c.Exec(i, "SELECT pg_reload_conf()")
	c.WaitUntil(i, "SELECT current_setting($1) = $2", setting, value)
}

func (c *Cluster) dsn(i int) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres", c.members[i].PGPort)
}

// conninfo is what standby i needs to stream from server upstream. It holds no
// quotes.
func (c *Cluster) conninfo(upstream, i int) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres application_name=%s", c.members[upstream].PGPort, c.members[i].ID)
}
