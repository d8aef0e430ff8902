package pool_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster/pool"
)

// encrypt turns TLS on in every server of c, and returns what its clients need.
func encrypt(t *testing.T, c *pgtest.Cluster, host string) func() *tls.Config {
	t.Helper()
	dir := pgtest.Dir(t)
	_, err := certs.Make(certs.Order{
		Dir: filepath.Join(dir, "tls"), Cluster: "test", CALife: time.Hour, NodeLife: time.Hour,
		Nodes: []certs.Request{{Node: "n1", Hosts: []string{host}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{certs.CertFile, certs.KeyFile} {
		copyFile(t, filepath.Join(dir, "tls", "n1", name), filepath.Join(dir, name))
	}
	for i := range c.Members() {
		c.Exec(i, fmt.Sprintf("ALTER SYSTEM SET ssl_cert_file = '%s/%s'", dir, certs.CertFile))
		c.Exec(i, fmt.Sprintf("ALTER SYSTEM SET ssl_key_file = '%s/%s'", dir, certs.KeyFile))
		c.Exec(i, "ALTER SYSTEM SET ssl = on")
		c.Exec(i, "SELECT pg_reload_conf()")
		c.WaitUntil(i, "SELECT current_setting('ssl') = 'on'")
	}
	return func() *tls.Config {
		config, err := certs.LoadCA(filepath.Join(dir, "tls", certs.CAFile))
		if err != nil {
			t.Error(err)
			return &tls.Config{MinVersion: tls.VersionTLS13}
		}
		return config
	}
}

// copyFile gives PostgreSQL's user a copy of a file.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cred, err := pgtest.Credential()
	if err != nil {
		t.Fatal(err)
	}
	if cred != nil {
		if err := os.Chown(to, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPools_TLS has sessions survive a promotion, and be replaced when the server ends
// them, which is noticed without using them.
func TestPools_TLS(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 2)
	secure := encrypt(t, c, "127.0.0.1")
	p := startWith(t, c, func(o *pool.Options) { o.TLS = secure })
	for i := range c.Members() {
		c.WaitUntil(i, `SELECT bool_and(ssl) AND count(*) >= $1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
			WHERE application_name = 'xpd-pool'`, minConns)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p.Retarget(target(1, c, 1))
	var before []uint32
	var after uint32
	err := p.Read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'xpd-pool'").Scan(&before)
	})
	if err != nil {
		t.Fatalf("Read() on the standby = %v", err)
	}
	c.Promote(1)
	if err := p.Do(ctx, write(1, &after)); err != nil {
		t.Fatalf("Do() = %v", err)
	}
	if !slices.Contains(before, after) {
		t.Errorf("Do() ran on backend %d, want one of %d which were there before the promotion", after, before)
	}

	c.Exec(1, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'xpd-pool'")
	c.WaitUntil(1, "SELECT count(*) >= $1 AND NOT $2 = ANY (array_agg(pid)) FROM pg_stat_activity WHERE application_name = 'xpd-pool'", minConns, int(after))
	if err := p.Do(ctx, write(2, &after)); err != nil {
		t.Errorf("Do() after the sessions were ended = %v", err)
	}
}

// TestPools_TLS_wrongHost keeps away from a server that cannot show that it is the one.
func TestPools_TLS_wrongHost(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	secure := encrypt(t, c, "127.0.0.9")
	o := options(c, prometheus.NewRegistry())
	o.TLS = secure
	p, err := pool.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.Retarget(target(1, c, 0))
	short, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if err := p.Do(short, write(1, nil)); err == nil {
		t.Error("Do() ran on a server with the certificate of another host")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v", err)
	}
}
