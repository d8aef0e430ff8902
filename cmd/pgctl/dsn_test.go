package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
)

const secret = "correct horse battery staple, 32 characters and more\n"

func writeSecret(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDSN(t *testing.T) {
	t.Parallel()
	url := serve(t, healthy(t))
	for name, args := range map[string][]string{
		"plain":       {"dsn"},
		"readonly":    {"dsn", "--read-only"},
		"json":        {"dsn", "--json"},
		"jdbc":        {"dsn", "--format", "jdbc", "--user", "shop", "--database", "shop"},
		"tls":         {"dsn", "--read-only", "--ssl-root-cert", "/etc/xpd/tls/ca.crt"},
		"no_password": {"dsn", "--user", "shop", "--format", "pgpass", "--secret-file", "/etc/xpd/secret"},
		"in_the_open": {"dsn", "--secret-file", "/etc/xpd/secret"},
	} {
		golden(t, "dsn_"+name+".txt", pgctl(t.Context(), url, nil, args...).transcript(args...))
	}
}

// TestDSN_secure is of a cluster whose PostgreSQLs refuse who does not speak TLS.
func TestDSN_secure(t *testing.T) {
	t.Parallel()
	n := healthy(t)
	n.secure = true
	url := serve(t, n)
	for name, args := range map[string][]string{
		"service":   {"dsn"},
		"java":      {"dsn", "--format", "jdbc"},
		"jdbc":      {"dsn", "--format", "jdbc", "--user", "shop", "--database", "shop"},
		"authority": {"dsn", "--user", "shop", "--ssl-root-cert", "/etc/xpd/tls/ca.crt"},
	} {
		golden(t, "dsn_secure_"+name+".txt", pgctl(t.Context(), url, nil, args...).transcript(args...))
	}
}

// TestDSN_parses reads the string as a driver does, IPv6 address included, with the
// password beside it.
func TestDSN_parses(t *testing.T) {
	t.Parallel()
	url := serve(t, healthy(t))
	kept := pgctl(t.Context(), url, nil, "dsn", "--format", "pgpass", "--secret-file", writeSecret(t, secret))
	got := pgctl(t.Context(), url, nil, "dsn")
	for _, r := range []result{kept, got} {
		if r.code != exitOK || r.err != "" {
			t.Fatalf("exit code %d, stderr %q", r.code, r.err)
		}
	}
	pgpass := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(pgpass, []byte(kept.out), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := pgconn.ParseConfig(strings.TrimSpace(got.out) + "&passfile=" + pgpass)
	if err != nil {
		t.Fatal(err)
	}
	type target struct {
		Host string
		Port uint16
	}
	targets := []target{{cfg.Host, cfg.Port}}
	for _, f := range cfg.Fallbacks {
		if next := (target{f.Host, f.Port}); next != targets[len(targets)-1] { // once with TLS, once without
			targets = append(targets, next)
		}
	}
	want := []target{{"127.0.0.1", 5432}, {"127.0.0.1", 5433}, {"::1", 5432}}
	if diff := cmp.Diff(want, targets); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	// HMAC-SHA256 of "xpd service" with the trimmed secret, by openssl.
	const password = "a9aa95ca1965a0ba199de740a75d5be4e0791cfbcfe2f6cc91eb7d972f5ad9f9"
	want6 := `\:\:1:5432:xpd:xpd:` + password + "\n"
	if !strings.HasSuffix(kept.out, want6) || strings.Count(kept.out, "\n") != 3 {
		t.Errorf("pgpass:\n%s, want three lines, and at the end %s", kept.out, want6)
	}
	if cfg.User != "xpd" || cfg.Database != "xpd" || cfg.Password != password {
		t.Errorf("user %q, database %q, password %q", cfg.User, cfg.Database, cfg.Password)
	}
	if cfg.ValidateConnect == nil {
		t.Error("any session would do, want one that can write")
	}
}

func TestDSN_secretFile(t *testing.T) {
	t.Parallel()
	url := serve(t, healthy(t))
	for name, path := range map[string]string{
		"missing":   filepath.Join(t.TempDir(), "none"),
		"too short": writeSecret(t, "swordfish"),
	} {
		got := pgctl(t.Context(), url, nil, "dsn", "--format", "pgpass", "--secret-file", path)
		if got.code != exitFailed || got.out != "" || !strings.HasPrefix(got.err, "pgctl: --secret-file") || strings.Contains(got.err, "swordfish") {
			t.Errorf("%s: exit code %d, out %q, stderr %q", name, got.code, got.out, got.err)
		}
	}
}

// TestDSN_jsonIsExact guards the & of the string against HTML escaping.
func TestDSN_jsonIsExact(t *testing.T) {
	t.Parallel()
	url := serve(t, healthy(t))
	var printed struct{ DSN string }
	got := pgctl(t.Context(), url, nil, "dsn", "--json")
	if err := json.Unmarshal([]byte(got.out), &printed); err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(pgctl(t.Context(), url, nil, "dsn").out); printed.DSN != want || !strings.Contains(got.out, want) {
		t.Errorf("dsn --json = %s, want %s in it unescaped", got.out, want)
	}
}

// A witness has no PostgreSQL to connect to.
func TestDSN_witness(t *testing.T) {
	t.Parallel()
	n := healthy(t)
	n.state.Members[1].Witness = true
	got := pgctl(t.Context(), serve(t, n), nil, "dsn")
	if want := "postgresql://xpd@127.0.0.1:5432,[::1]:5432/xpd?"; got.code != exitOK || !strings.HasPrefix(got.out, want) {
		t.Errorf("exit code %d, %s%s, want %s…", got.code, got.out, got.err, want)
	}
}

// TestDSN_connects connects with libpq and with pgx. The standby comes first in the
// string, and before it a host that is down.
func TestDSN_connects(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 2)
	n := healthy(t)
	down := n.state.Members[0]
	down.PGPort = 1
	n.state.Members = []pgcluster.Member{down, c.Members()[1], c.Members()[0]}
	url := serve(t, n)
	psql, noPsql := exec.LookPath("psql")
	for want, flags := range map[string][]string{"f": nil, "t": {"--read-only"}} {
		args := append([]string{"dsn", "--user", "postgres", "--database", "postgres"}, flags...)
		dsn := strings.TrimSpace(pgctl(t.Context(), url, nil, args...).out)
		t.Run("pgx, in recovery "+want, func(t *testing.T) {
			t.Parallel()
			conn, err := pgconn.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(t.Context()))
			rows, err := conn.Exec(t.Context(), "SELECT pg_is_in_recovery()").ReadAll()
			if err != nil || string(rows[0].Rows[0][0]) != want {
				t.Errorf("%q: %v, %v, want in recovery %s", dsn, rows, err, want)
			}
		})
		t.Run("psql, in recovery "+want, func(t *testing.T) {
			t.Parallel()
			if noPsql != nil {
				t.Skip("no psql here")
			}
			out, err := exec.CommandContext(t.Context(), psql, dsn, "-XAtc", "SELECT pg_is_in_recovery()").CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != want {
				t.Errorf("psql %q: in recovery %s, %v, want %s", dsn, got, err, want)
			}
		})
	}
}
