package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestPostgresqlConf(t *testing.T) {
	t.Parallel()
	o := Options{
		Node:     "n1",
		Members:  []pgcluster.Member{{ID: "n1", Host: "10.0.0.1", PGPort: 5432}, {ID: "n2", Host: "10.0.0.2", PGPort: 5433}},
		Settings: map[string]string{"shared_buffers": "1GB", "search_path": `a'b\c`},
	}
	got := postgresqlConf(o, paths{conf: "/x/conf", run: "/x/run"}, settings{Sync: nobody, Upstream: "n2", Stream: 7})
	for _, want := range []string{
		"default_transaction_read_only = 'on'\n",
		"shared_buffers = '1GB'\n",
		`search_path = 'a''b\\c'` + "\n",
		"synchronous_standby_names = 'ANY 1 (xpd_nobody)'\n",
		"restart_after_crash = 'off'\n",
		"primary_slot_name = 'xpd_7_n1'\n",
		"host=''10.0.0.2''", "port=''5433''", "application_name=''n1''", "passfile=''/x/conf/upstream.pgpass''",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(strings.ToLower(got), "password=") {
		t.Error("a password in postgresql.conf would survive a recruit")
	}
	o.TLS = new(certs.Store)
	got = postgresqlConf(o, paths{conf: "/x/conf"}, settings{Upstream: "n2", Stream: 7})
	for _, want := range []string{
		"ssl = 'on'\n", "ssl_cert_file = '/x/conf/node.pem'\n", "ssl_min_protocol_version = 'TLSv1.3'\n",
		"sslmode=''verify-full''", "sslrootcert=''/x/conf/ca.crt''",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("with TLS: no %q in:\n%s", want, got)
		}
	}
	for _, want := range []string{"primary_conninfo = ''\n", "primary_slot_name = ''\n"} {
		if got := postgresqlConf(o, paths{}, detached()); !strings.Contains(got, want) {
			t.Errorf("a detached standby has an upstream: no %q", want)
		}
	}
}

func TestHBAConf(t *testing.T) {
	t.Parallel()
	o := Options{Members: []pgcluster.Member{{ID: "n1", Host: "10.0.0.1"}, {ID: "n2", Host: "fd00::2"}, {ID: "n3", Host: "db3.example"}}}
	const head = `# Written by xpd. Changes are overwritten.
local all all trust
local replication all trust
host replication xpd_replication 10.0.0.1/32 scram-sha-256
host all xpd_admin 10.0.0.1/32 scram-sha-256
host replication xpd_replication db3.example scram-sha-256
host all xpd_admin db3.example scram-sha-256
host replication xpd_replication fd00::2/128 scram-sha-256
host all xpd_admin fd00::2/128 scram-sha-256
`
	if diff := cmp.Diff(head+"host all xpd all scram-sha-256\n", hbaConf(o, settings{Serving: true})); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(head+"host all xpd all reject\n", hbaConf(o, settings{Locked: true, Serving: true})); diff != "" {
		t.Errorf("locked (-want +got):\n%s", diff)
	}
	if got := hbaConf(o, settings{}); strings.Contains(got, "host replication") {
		t.Errorf("standbys may log in before the slots are in order:\n%s", got)
	}
	o.TLS = new(certs.Store)
	secure := strings.ReplaceAll(strings.ReplaceAll(head, "\nhost ", "\nhostssl "), "scram-sha-256\n", "scram-sha-256 clientcert=verify-ca\n") +
		"hostssl all xpd all scram-sha-256 clientcert=verify-ca\nhostnossl all xpd_admin,xpd_replication,xpd all reject\n"
	if diff := cmp.Diff(secure, hbaConf(o, settings{Serving: true})); diff != "" {
		t.Errorf("with TLS (-want +got):\n%s", diff)
	}
	loopback := memberAddresses([]pgcluster.Member{{Host: "127.0.0.2"}, {Host: "127.0.0.3"}, {Host: "localhost"}, {Host: "::1"}})
	if diff := cmp.Diff([]string{"127.0.0.0/8", "::1/128"}, loopback); diff != "" {
		t.Errorf("loopback (-want +got):\n%s", diff)
	}
}

func TestNew_refusesBadOptions(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "postgres"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"unknown node", func(o *Options) { o.Node = "n9" }, "not among the members"},
		{"no secret", func(o *Options) { o.Secrets.Service = "" }, "secret"},
		{"secret of two lines", func(o *Options) { o.Secrets.Admin = "a\nb" }, "secret"},
		{"managed setting", func(o *Options) { o.Settings = map[string]string{"fsync": "off"} }, "managed"},
		{"setting that ends the line", func(o *Options) { o.Settings = map[string]string{"a\nb": "c"} }, "setting name"},
		{"no PostgreSQL", func(o *Options) { o.BinDir = deep }, "no PostgreSQL"},
		{"socket path too long", func(o *Options) { o.Dir = deep }, "socket"},
		{"broken state", func(o *Options) { o.Dir = brokenState(t) }, "agent state"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := Options{
				Node: "n1", Members: []pgcluster.Member{{ID: "n1", Host: "127.0.0.1", PGPort: 5432}},
				Dir: "/tmp", BinDir: bin, OSUser: "postgres", Secrets: Secrets{"a", "b", "c"},
				Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
			}
			tt.change(&o)
			if _, err := New(o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func brokenState(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "agent.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestQuoteLiteral(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"a": "'a'", "a'b": "'a''b'", `a\'b`: ` E'a\\''b'`} {
		if got := quoteLiteral(in); got != want {
			t.Errorf("quoteLiteral(%q) = %s, want %s", in, got, want)
		}
	}
}
