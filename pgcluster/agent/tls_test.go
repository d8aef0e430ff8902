package agent_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// bureau makes certificates as xpd certs does.
type bureau struct {
	t     *testing.T
	order certs.Order
}

func newBureau(t *testing.T) bureau {
	t.Helper()
	return bureau{t: t, order: certs.Order{
		Dir: filepath.Join(t.TempDir(), "tls"), Cluster: "test", CALife: time.Hour, NodeLife: time.Hour,
		Nodes: []certs.Request{{Node: "n1", Hosts: []string{"127.0.0.1"}}, {Node: "n2", Hosts: []string{"127.0.0.1"}}},
	}}
}

func (b bureau) make(change func(*certs.Order)) {
	b.t.Helper()
	o := b.order
	if change != nil {
		change(&o)
	}
	if _, err := certs.Make(o); err != nil {
		b.t.Fatal(err)
	}
}

func (b bureau) open(id pgcluster.NodeID) *certs.Store {
	b.t.Helper()
	s, err := certs.Open(filepath.Join(b.order.Dir, string(id)), slog.New(slog.NewTextHandler(b.t.Output(), nil)))
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// local connects as the superuser over the socket.
func (n *node) local(database string) *pgx.Conn {
	n.t.Helper()
	conn, err := pgx.Connect(n.t.Context(), fmt.Sprintf("host='%s' port=%d user=%s dbname=%s",
		filepath.Join(n.o.Dir, "pg", "run"), n.m.PGPort, agent.AdminRole, database))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// dial connects from another address than the node's own, encrypted unless secure is
// nil.
func (n *node) dial(user, password string, secure *tls.Config) (*pgx.Conn, error) {
	n.t.Helper()
	database := agent.Database
	if user == agent.AdminRole {
		database = "postgres"
	}
	config, err := pgx.ParseConfig(n.dsn(user, password, database))
	if err != nil {
		n.t.Fatal(err)
	}
	config.DialFunc = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}).DialContext
	if config.TLSConfig = secure; secure != nil {
		secure.ServerName = n.m.Host
	}
	conn, err := pgx.ConnectConfig(n.t.Context(), config)
	if err == nil {
		n.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

// serial returns what tells the certificate that the server shows from others.
func (n *node) serial(secure *tls.Config) string {
	n.t.Helper()
	conn, err := n.dial(agent.ServiceRole, n.o.Secrets.Service, secure)
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close(n.t.Context())
	return conn.PgConn().Conn().(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// streamsEncrypted checks the connection on which a standby streams from n.
func streamsEncrypted(t *testing.T, n *node, standby pgcluster.NodeID) {
	t.Helper()
	const sql = `
SELECT s.ssl::text || ' ' || s.version || ' ' || s.client_dn FROM pg_stat_replication r JOIN pg_stat_ssl s USING (pid)
WHERE r.application_name = $1`
	if got, want := query[string](t, n.local("postgres"), sql, string(standby)), "true TLSv1.3 /O=xpd/CN="+string(standby); got != want {
		t.Errorf("%s streams from %s with %q, want %q", standby, n.m.ID, got, want)
	}
}

// TestAgent_TLS clones, streams, promotes, rewinds and follows over TLS alone.
func TestAgent_TLS(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	b := newBureau(t)
	b.make(nil)
	stores := map[pgcluster.NodeID]*certs.Store{"n1": b.open("n1"), "n2": b.open("n2")}
	nodes := newNodesWith(t, 2, func(o *agent.Options) {
		o.TLS = stores[o.Node]
		o.Settings["ssl"] = "off" // which is not for people to say any more
	})
	n1, n2 := nodes[0], nodes[1]
	initialize(nodes, true)
	n1.await("a complaint", func(r pgcluster.Report) bool {
		return slices.Equal(r.Refused, []string{"ssl=off: managed by the agent where xpd has --tls-dir"})
	})
	streamsEncrypted(t, n1, "n2")
	exec(t, n1.local(agent.Database), "CREATE TABLE t (v int)")
	exec(t, n1.local(agent.Database), "CREATE ROLE shop LOGIN PASSWORD 'swordfish'")

	t.Run("who is let in from elsewhere", func(t *testing.T) { //nolint:paralleltest // a step
		secrets := n1.o.Secrets
		person, peer := stores["n2"].ClientConfig(), stores["n2"].NodeClientConfig()
		for _, tt := range []struct {
			name, user, password string
			secure               *tls.Config
			allowed              bool
		}{
			{"the service in the clear", agent.ServiceRole, secrets.Service, nil, false},
			{"an application in the clear", "shop", "swordfish", nil, false},
			{"an application", "shop", "swordfish", person, true},
			{"an application without its password", "shop", "wrong", person, false},
			{"a member in the clear", agent.AdminRole, secrets.Admin, nil, false},
			{"the service without a certificate", agent.ServiceRole, secrets.Service, person, false},
			{"the service", agent.ServiceRole, secrets.Service, peer, true},
			{"the service without its password", agent.ServiceRole, "wrong", peer, false},
			{"a member without a certificate", agent.AdminRole, secrets.Admin, person, false},
			{"a member", agent.AdminRole, secrets.Admin, peer, true},
			{"a member without its password", agent.AdminRole, "wrong", peer, false},
		} {
			_, err := n1.dial(tt.user, tt.password, tt.secure)
			refused, ok := errors.AsType[*pgconn.PgError](err)
			if tt.allowed && err != nil || !tt.allowed && (!ok || refused.Code[:2] != "28") {
				t.Errorf("%s: %v, want let in = %v", tt.name, err, tt.allowed)
			}
		}
	})
	t.Run("new certificates", func(t *testing.T) { //nolint:paralleltest // a step
		const walsender = "SELECT pid FROM pg_stat_replication"
		pid, before := query[int](t, n1.local("postgres"), walsender), n1.serial(stores["n1"].NodeClientConfig())
		b.make(func(o *certs.Order) { o.Renew = true })
		for _, s := range stores {
			if err := s.Reload(); err != nil {
				t.Fatal(err)
			}
		}
		deadline := time.Now().Add(patience)
		for n1.serial(stores["n1"].NodeClientConfig()) == before {
			if time.Now().After(deadline) {
				t.Fatal("the old certificate is still shown")
			}
		}
		if got := query[int](t, n1.local("postgres"), walsender); got != pid {
			t.Error("the standby was disconnected for new certificates")
		}
		for _, nd := range nodes {
			for _, name := range []string{"ca.crt", "node.pem"} {
				info, err := os.Stat(filepath.Join(nd.o.Dir, "pg", "conf", name))
				if err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s of %s: %v, %v", name, nd.m.ID, info.Mode(), err)
				}
			}
		}
	})
	t.Run("a failover, and a rewind", func(t *testing.T) { //nolint:paralleltest // a step
		n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
		admin := n1.local(agent.Database)
		exec(t, admin, "SET synchronous_commit = local")
		exec(t, admin, "SET default_transaction_read_only = off")
		exec(t, admin, "INSERT INTO t VALUES (100)")
		n1.kill9()
		n1.await("crash", pgcluster.Report.Down)
		lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 21), Sync: anyOf(1, "n1"), Barrier: true, Open: true}
		n2.submit(lead)
		promoted := n2.await("promotion", func(r pgcluster.Report) bool { return r.Role == pgcluster.RolePrimary && r.Position.Timeline == 2 })
		n1.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 22), Upstream: "n2", Lineage: promoted.Lineage})
		n2.await("opening", func(r pgcluster.Report) bool { return r.Open == 2 })
		streamsEncrypted(t, n2, "n1")
		if saved, _ := filepath.Glob(filepath.Join(n1.o.Dir, "pg", "diverged", "1-*", "00000001*")); len(saved) == 0 {
			t.Error("it was not rewound: no WAL was set aside")
		}
		if got := query[int](t, n1.local(agent.Database), "SELECT count(*)::int FROM t"); got != 0 {
			t.Errorf("%d rows of the lost commit are back", got)
		}
	})
	t.Run("settings of its own, taken back", func(t *testing.T) { //nolint:paralleltest // a step
		exec(t, n2.local("postgres"), "ALTER SYSTEM SET ssl = off")
		exec(t, n2.local("postgres"), "SELECT pg_reload_conf()")
		n2.await("encryption again", func(r pgcluster.Report) bool {
			_, err := n2.dial(agent.ServiceRole, n2.o.Secrets.Service, stores["n2"].NodeClientConfig())
			return len(r.Overrides) > 0 && err == nil
		})
	})
	t.Run("a certificate of somebody else's at a start", func(t *testing.T) { //nolint:paralleltest // a step
		exec(t, n1.local("postgres"), "ALTER SYSTEM SET ssl_cert_file = '/nowhere'")
		n1.kill9() // before the agent has noticed
		n1.await("crash", pgcluster.Report.Down)
		n1.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 23), Upstream: "n2", Lineage: n2.Report().Lineage})
		streamsEncrypted(t, n2, "n1")
		n1.await("the override", func(r pgcluster.Report) bool { return len(r.Overrides) == 1 })
	})
	t.Run("a successor", func(t *testing.T) { //nolint:paralleltest // a step
		n2.end(false)
		n2.start()
		n2.await("running", pgcluster.Report.Running)
		n2.serial(stores["n2"].NodeClientConfig())
		streamsEncrypted(t, n2, "n1")
	})
}

// TestAgent_TLS_refusesAStranger has an upstream show a certificate of another CA.
func TestAgent_TLS_refusesAStranger(t *testing.T) {
	t.Parallel()
	b, foreign := newBureau(t), newBureau(t)
	b.make(nil)
	foreign.make(nil)
	stores := map[pgcluster.NodeID]*certs.Store{"n1": foreign.open("n1"), "n2": b.open("n2")}
	nodes := newNodesWith(t, 2, func(o *agent.Options) { o.TLS = stores[o.Node] })
	n1, n2 := nodes[0], nodes[1]
	system := n1.do(pgcluster.Order{Kind: pgcluster.OrderInit, Stamp: stamp(1, 1)}).SystemID
	n1.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 2), Barrier: true, Open: true})
	n2.submit(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(1, 3), SystemID: system, Upstream: "n1"})
	n2.await("refusal", func(r pgcluster.Report) bool { return r.Order.Kind == pgcluster.OrderFollow && r.Order.Error != "" })
	if _, err := os.Stat(filepath.Join(n2.o.Dir, "pg", "data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it copied from a stranger: %v", err)
	}
}
