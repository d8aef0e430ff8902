package clientflags_test

import (
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/internal/clientflags"
)

const (
	tokenEnv = "XPDTEST_TOKEN"
	token    = "xpd_QWxsIHlvdXIgYmFzZSBhcmUgYmVsb25nIHRvIHVzIQ"
)

// parse reads flags as a tool does, its environment too.
func parse(t *testing.T, args ...string) clientflags.Flags {
	t.Helper()
	var cli struct {
		clientflags.Flags `envprefix:"XPDTEST_"`
	}
	parser, err := kong.New(&cli, kong.Vars(clientflags.Vars(tokenEnv)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return cli.Flags
}

func write(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// guarded serves over TLS whoever shows the token, and returns its CA file.
func guarded(t *testing.T, status int) (url, ca string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(status)
		}
		_, _ = io.WriteString(w, `{"type":"/problems/x","title":"No"}`)
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	return srv.URL, write(t, 0o644, string(block))
}

func TestServers(t *testing.T) {
	t.Parallel()
	_, ca := guarded(t, 401)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"none named", nil, "http://127.0.0.1:8300"},
		{"a host", []string{"--server", "db1"}, "http://db1:8300"},
		{"a port", []string{"--server", "db1:9301"}, "http://db1:9301"},
		{"an address", []string{"--server", "10.0.0.1"}, "http://10.0.0.1:8300"},
		{"IPv6", []string{"--server", "fd00::1"}, "http://[fd00::1]:8300"},
		{"IPv6 in brackets", []string{"--server", "[fd00::1]"}, "http://[fd00::1]:8300"},
		{"IPv6 and a port", []string{"--server", "[fd00::1]:9301"}, "http://[fd00::1]:9301"},
		{"a URL", []string{"--server", "https://db1/xpd"}, "https://db1/xpd"},
		{"more hosts", []string{"--server", "db1,db2:9301"}, "http://db1:8300 http://db2:9301"},
		{"none named, with a CA", []string{"--ca", ca}, "https://127.0.0.1:8300"},
		{"hosts with a CA", []string{"--ca", ca, "--server", "db1,db2:9301"}, "https://db1:8300 https://db2:9301"},
		{"a CA does not change a URL", []string{"--ca", ca, "--server", "http://db1:1"}, "http://db1:1"},
		{"the first URL counts for all", []string{"--server", "https://db1:1,db2"}, "https://db1:1 https://db2:8300"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			way, err := parse(t, tt.args...).Open(tokenEnv, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(way.Servers, " "); got != tt.want {
				t.Errorf("servers = %s, want %s", got, tt.want)
			}
			scheme, _, _ := strings.Cut(tt.want, "://")
			if got, want := way.URL("n2:8301"), scheme+"://n2:8301"; got != want {
				t.Errorf("URL of another node = %s, want %s", got, want)
			}
		})
	}
}

// TestEnvironment_letsIn takes all from the environment, as scripts do.
func TestEnvironment_letsIn(t *testing.T) {
	url, ca := guarded(t, 401)
	t.Setenv("XPDTEST_SERVER", strings.TrimPrefix(url, "https://"))
	t.Setenv("XPDTEST_CA", ca)
	t.Setenv("XPDTEST_TOKEN_FILE", "") // as if it were not set
	call := func() error {
		way, err := parse(t).Open(tokenEnv, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		c, err := way.Client(way.Servers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Layers(t.Context())
		return err
	}
	if err := call(); err == nil {
		t.Error("let in without a token")
	}
	t.Setenv(tokenEnv, token)
	if err := call(); err != nil {
		t.Errorf("with the token in the environment: %v", err)
	}
	t.Setenv(tokenEnv, "another")
	t.Setenv("XPDTEST_TOKEN_FILE", write(t, 0o600, token+"\n"))
	if err := call(); err != nil {
		t.Errorf("with the token in a file: %v", err)
	}
}

func TestOpen_tokenFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		mode  os.FileMode
		text  string
		warns bool
		fails string
	}{
		{"as it should be", 0o600, token + "\n", false, ""},
		{"without an end of line", 0o400, token, false, ""},
		{"others may read it", 0o644, token, true, ""},
		{"the group may read it", 0o640, token, true, ""},
		{"empty", 0o600, "\n", false, "want one token"},
		{"two tokens", 0o600, token + "\n" + token, false, "want one token"},
		{"the servers' list", 0o600, "ann dba sha256:" + strings.Repeat("0", 64), false, "holds hashes only"},
		{"something long", 0o600, strings.Repeat("x", 5000), false, "too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var said strings.Builder
			_, err := clientflags.Flags{TokenFile: write(t, tt.mode, tt.text)}.Open(tokenEnv, &said)
			if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("Open() = %v, want %q", err, tt.fails)
			}
			if warned := strings.Contains(said.String(), "chmod 600 "); warned != tt.warns {
				t.Errorf("said %q, want a warning: %v", said.String(), tt.warns)
			}
			if err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
	if _, err := (clientflags.Flags{TokenFile: "/nonexistent"}).Open(tokenEnv, io.Discard); err == nil {
		t.Error("a file that is not there is not missed")
	}
	if _, err := (clientflags.Flags{CA: write(t, 0o644, "no PEM")}).Open(tokenEnv, io.Discard); err == nil {
		t.Error("a CA file without a certificate is accepted")
	}
}

// TestExplain names the flag that helps.
func TestExplain(t *testing.T) {
	t.Parallel()
	url, ca := guarded(t, 401)
	forbidding, forbiddingCA := guarded(t, 403)
	limiting, limitingCA := guarded(t, 429)
	missing, missingCA := guarded(t, 404)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	wrong := write(t, 0o600, "xpd_wrong")
	host := strings.TrimPrefix(url, "https://")
	_, port, _ := strings.Cut(host, ":")
	tests := []struct {
		name string
		args []string
		want string // "" for no hint
	}{
		{"no CA", []string{"--server", url}, "Give the cluster's ca.crt with --ca or XPDTEST_CA"},
		{"a CA of another cluster", []string{"--server", "https://" + host, "--ca", otherCA(t)}, "give the ca.crt of that cluster with --ca"},
		{"a name that the certificate lacks", []string{"--server", "https://localhost:" + port, "--ca", ca}, "xpd certs --san"},
		{"http to an https port", []string{"--server", host}, "name the node without a scheme or as https://" + host},
		{"https to an http port", []string{"--server", strings.Replace(plain.URL, "http", "https", 1), "--ca", ca}, "name it as " + plain.URL},
		{"a token over http", []string{"--server", "http://10.1.1.1:8300", "--token-file", wrong}, "name the node without a scheme or as https://10.1.1.1:8300"},
		{"no token", []string{"--server", url, "--ca", ca}, "Give your token with --token-file or XPDTEST_TOKEN"},
		{"a token that is not known", []string{"--server", url, "--ca", ca, "--token-file", wrong}, "The token of " + wrong + " is unknown there"},
		{"a role that does not do", []string{"--server", forbidding, "--ca", forbiddingCA, "--token-file", wrong}, "Give a token of such a role with --token-file"},
		{"a name that is not the node's", []string{"--server", forbidding, "--ca", forbiddingCA}, "Name the node with --server by its address"},
		{"too many tries", []string{"--server", limiting, "--ca", limitingCA}, "wait some seconds"},
		{"something else", []string{"--server", missing, "--ca", missingCA}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			way, err := parse(t, tt.args...).Open(tokenEnv, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			c, err := way.Client(way.Servers, &http.Client{Transport: way.Transport()})
			if err == nil {
				_, err = c.Layers(t.Context())
			}
			got := way.Explain(err)
			if tt.want == "" && got != err || !strings.Contains(got.Error(), tt.want) || !strings.HasPrefix(got.Error(), err.Error()) { //nolint:errorlint // the same one
				t.Errorf("Explain(%v)\n = %v\nwant %q", err, got, tt.want)
			}
			if again := way.Explain(got); again.Error() != got.Error() {
				t.Errorf("explained twice: %v", again)
			}
		})
	}
}

// otherCA returns the CA file of a cluster that does not run.
func otherCA(t *testing.T) string {
	t.Helper()
	ca, _, err := certs.NewCA("other", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, 0o644, string(ca))
}
