package xpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// operation is what the document says of a route.
type operation struct {
	Security *[]map[string][]string `json:"security"`
}

// takes reports whether the document lets a role in. No security is for everybody.
func (o operation) takes(role access.Role) bool {
	if len(*o.Security) == 0 {
		return true
	}
	return slices.ContainsFunc(*o.Security, func(s map[string][]string) bool {
		if _, node := s["node"]; node {
			return role == access.RoleNode
		}
		return slices.Contains(s["token"], string(role))
	})
}

// Every route of the daemon takes the roles that the document names, and no other.
func TestHandler_roles(t *testing.T) {
	t.Parallel()
	tokens := make(map[access.Role]string)
	tokens[""] = "" // who has none
	var file strings.Builder
	for _, role := range access.TokenRoles() {
		token, hash, err := access.NewToken()
		if err != nil {
			t.Fatal(err)
		}
		tokens[role] = token
		fmt.Fprintf(&file, "%s-s %s %s\n", role, role, hash)
	}
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDaemon(t, func(o *Options) { o.TokenFile, o.Timeout = path, 10*time.Millisecond })
	tokens[access.RoleNode] = d.Secret.Password(pgcluster.PasswordNode)
	h := d.handler()

	asked := httptest.NewRecorder()
	h.ServeHTTP(asked, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/openapi.json", nil))
	var doc struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	if err := json.Unmarshal(asked.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // there is no database: some wait for one
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	n := 0
	for pattern, methods := range doc.Paths {
		for method, op := range methods {
			if op.Security == nil {
				t.Errorf("%s %s: the document does not say who may ask", method, pattern)
				continue
			}
			for role, token := range tokens {
				if pattern == "/v1/node/identity" && role == access.RoleNode {
					token = pgcluster.IdentityToken(token)
				}
				n++ // of the source: one that sends many wrong tokens would be refused for that
				r := httptest.NewRequestWithContext(ctx, strings.ToUpper(method), strings.NewReplacer("{", "", "}", "").Replace(pattern), strings.NewReader("?"))
				r.RemoteAddr = fmt.Sprintf("10.0.%d.%d:1", n/256, n%256)
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				wg.Go(func() { checkRole(t, h, r, role, op.takes(role)) })
			}
		}
	}
}

// checkRole sends a request that changes nothing: its body is none that a route reads.
func checkRole(t *testing.T, h http.Handler, r *http.Request, role access.Role, takes bool) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	want := http.StatusForbidden
	switch {
	case takes:
		if w.Code == http.StatusUnauthorized || w.Code == http.StatusForbidden {
			t.Errorf("%s %s with role %q = %d, want that it is let in", r.Method, r.URL, role, w.Code)
		}
		return
	case role == "", strings.HasPrefix(r.URL.Path, "/v1/node/"): // where a token is no node's
		want = http.StatusUnauthorized
	}
	if w.Code != want || w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("%s %s with role %q = %d %s, want %d", r.Method, r.URL, role, w.Code, w.Body, want)
	}
}

func TestHealthHandler(t *testing.T) {
	t.Parallel()
	h := newDaemon(t).healthHandler()
	for path, want := range map[string]int{
		"/live": 200, "/ready": 503, "/primary": 503, "/replica": 503, "/sync": 503, "/metrics": 200,
		"/healthz": 404, "/openapi.json": 404, "/v1/cluster": 404, "/v1/treatments": 404, "/v1/node/report": 404,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
			if w.Code != want {
				t.Errorf("%s %s = %d, want %d", method, path, w.Code, want)
			}
		}
	}
}

// due notes how long its answer may take.
type due struct {
	*httptest.ResponseRecorder

	in time.Duration
}

func (w *due) SetWriteDeadline(at time.Time) error {
	w.in = time.Until(at)
	return nil
}

// Figures may take longer than what strangers are answered at once.
func TestHealthHandler_slowScrape(t *testing.T) {
	t.Parallel()
	h := newDaemon(t).healthHandler()
	for path, want := range map[string]bool{"/live": false, "/metrics": true} {
		w := &due{ResponseRecorder: httptest.NewRecorder()}
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if longer := w.in > openTimeout; longer != want {
			t.Errorf("%s: may take %v, want more than %v: %v", path, w.in, openTimeout, want)
		}
	}
}

// makeCerts returns the folder of n1's certificate, good for host.
func makeCerts(t *testing.T, host string) string {
	t.Helper()
	dir := t.TempDir()
	_, err := certs.Make(certs.Order{
		Dir: dir, Cluster: "test", CALife: 48 * time.Hour, NodeLife: 24 * time.Hour,
		Nodes: []certs.Request{{Node: "n1", Hosts: []string{host}, Life: 24 * time.Hour}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "n1")
}

func TestOpenCerts_refuses(t *testing.T) {
	t.Parallel()
	dir := makeCerts(t, "192.0.2.1")
	tests := map[string]struct {
		dir, node, host, want string
	}{
		"fine":           {dir, "n1", "192.0.2.1", ""},
		"another node's": {dir, "n2", "192.0.2.1", "is for node n1, this is n2"},
		"another host's": {dir, "n1", "192.0.2.2", "the others reach this node at 192.0.2.2"},
		"none":           {filepath.Join(dir, "none"), "n1", "192.0.2.1", "--tls-dir"},
	}
	for name, tt := range tests {
		self := pgcluster.Member{ID: pgcluster.NodeID(tt.node), Host: tt.host}
		_, err := openCerts(Options{TLSDir: tt.dir, Logger: slog.New(slog.DiscardHandler)}, self)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: openCerts() = %v, want %q", name, err, tt.want)
		}
	}
}

// opened serves h behind a door, and returns its address.
func opened(t *testing.T, h http.HandlerFunc, conf *tls.Config) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := door{name: "test", ln: ln, tls: conf, most: 2, handler: func() http.Handler { return h }}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- d.serve(ctx, time.Second, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve() = %v", err)
		}
	})
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func readStatus(t *testing.T, c net.Conn) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("read answer: %v", err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func refuse(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }

// Who is refused before the body was read is not waited for until it is there.
func TestDoor_slowBodyOfARefusedRequest(t *testing.T) {
	t.Parallel()
	c := dial(t, opened(t, refuse, nil))
	began := time.Now()
	say(t, c, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nslow")
	if got := readStatus(t, c); got != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", got)
	}
	if took := time.Since(began); took >= readTimeout {
		t.Errorf("it took %v", took)
	}
}

// impatient notes whether its connection was given a deadline.
type impatient struct {
	http.ResponseWriter

	deadlines int
}

func (w *impatient) SetReadDeadline(time.Time) error {
	w.deadlines++
	return nil
}

// A deadline while the server waits for the client to leave would look as if it had.
func TestHurried(t *testing.T) {
	t.Parallel()
	readAll := func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) }
	tests := []struct {
		name, body string
		h          http.HandlerFunc
		want       int
	}{
		{"no body", "", refuse, 0},
		{"a body that was read", "text", readAll, 0},
		{"a body that was not", "text", refuse, 1},
		{"a body that was read in part", "text", func(_ http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 2)) }, 1},
	}
	for _, tt := range tests {
		w := &impatient{ResponseWriter: httptest.NewRecorder()}
		hurried(tt.h).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/x", strings.NewReader(tt.body)))
		if w.deadlines != tt.want {
			t.Errorf("%s: %d deadlines, want %d", tt.name, w.deadlines, tt.want)
		}
	}
}

// Silent connections do not keep others from being served.
func TestDoor_crowded(t *testing.T) {
	t.Parallel()
	addr := opened(t, refuse, nil)
	silent := []net.Conn{dial(t, addr), dial(t, addr)}
	asking := dial(t, addr)
	say(t, asking, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := readStatus(t, asking); got != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", got)
	}
	if n, err := silent[0].Read(make([]byte, 1)); err == nil {
		t.Errorf("the connection that was silent longest: Read() = %d bytes, want that it was closed", n)
	}
}

// Who asks for what everybody may read, and never reads it, keeps nobody out, and is not
// waited for long.
func TestDoor_neverReads(t *testing.T) {
	t.Parallel()
	unread := make(chan error, 8) // room for all: no handler waits for the test
	served := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			var err error
			for piece := make([]byte, 1<<20); err == nil; {
				_, err = w.Write(piece)
			}
			unread <- err
			return
		}
		if !admit(r.Context(), access.Principal{Roles: []access.Role{access.RoleDBA}}) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	const big, small = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n", "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
	say(t, dial(t, opened(t, served, nil)), big)
	select {
	case err := <-unread:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the answer ended with %v, want that it took too long", err)
		}
	case <-time.After(writeTimeout / 2):
		t.Error("an answer that nobody reads is still being written")
	}

	addr := opened(t, served, nil)
	for range 3 {
		say(t, dial(t, addr), big)
	}
	asking := dial(t, addr)
	for range 3 { // from the second time on it is known, and stays
		say(t, asking, small)
		if got := readStatus(t, asking); got != http.StatusOK {
			t.Errorf("status %d, want 200", got)
		}
		say(t, dial(t, addr), big)
	}
}

func TestDoor_tls(t *testing.T) {
	t.Parallel()
	store, err := certs.Open(makeCerts(t, "127.0.0.1"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addr := opened(t, func(w http.ResponseWriter, r *http.Request) {
		if _, node := certs.NodeOf(r.TLS); node {
			w.WriteHeader(http.StatusNoContent)
		}
	}, store.ServerConfig())
	for name, tt := range map[string]struct {
		conf *tls.Config
		want int
	}{
		"somebody": {store.ClientConfig(), http.StatusOK},
		"a node":   {store.NodeClientConfig(), http.StatusNoContent},
	} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: tt.conf, ForceAttemptHTTP2: true}}
		resp, err := c.Get("https://" + addr)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.want || resp.ProtoMajor != 1 {
			t.Errorf("%s: status %d with HTTP/%d, want %d with HTTP/1", name, resp.StatusCode, resp.ProtoMajor, tt.want)
		}
		c.CloseIdleConnections()
	}
	plain := dial(t, addr)
	say(t, plain, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := readStatus(t, plain); got != http.StatusBadRequest {
		t.Errorf("plain HTTP: status %d, want 400", got)
	}
}
