package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
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
		"plain":    {"dsn"},
		"readonly": {"dsn", "--read-only"},
		"json":     {"dsn", "--json"},
	} {
		golden(t, "dsn_"+name+".txt", pgctl(t.Context(), url, nil, args...).transcript(args...))
	}
}

// TestDSN_parses reads the string as a driver does, IPv6 address and password included.
func TestDSN_parses(t *testing.T) {
	t.Parallel()
	got := pgctl(t.Context(), serve(t, healthy(t)), nil, "dsn", "--secret-file", writeSecret(t, secret))
	if got.code != exitOK || got.err != "" {
		t.Fatalf("exit code %d, stderr %q", got.code, got.err)
	}
	cfg, err := pgconn.ParseConfig(strings.TrimSpace(got.out))
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
		got := pgctl(t.Context(), url, nil, "dsn", "--secret-file", path)
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
