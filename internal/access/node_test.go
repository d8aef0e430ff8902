package access_test

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// authority is a CA that makes TLS folders.
type authority struct {
	ca   *certs.CA
	cert []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	cert, key, err := certs.NewCA("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.ParseCA(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return authority{ca, cert}
}

func (a authority) store(t *testing.T, id pgcluster.NodeID) *certs.Store {
	t.Helper()
	cert, key, err := a.ca.Issue(certs.Request{Node: id, Hosts: []string{"127.0.0.1"}, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{certs.CAFile: a.cert, certs.CertFile: cert, certs.KeyFile: key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := certs.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestNodes_certificates talks TLS to a node that wants certificates of nodes.
func TestNodes_certificates(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	d := newDoor(t, access.Options{RequireNodeCert: true, Banned: func(id pgcluster.NodeID) bool { return id == "n3" }})
	srv := httptest.NewUnstartedServer(d.handler)
	srv.TLS = ours.store(t, "n1").ServerConfig()
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	srv.StartTLS()
	t.Cleanup(srv.Close)

	n2 := ours.store(t, "n2")
	foreign := theirs.store(t, "n2").NodeClientConfig()
	foreign.RootCAs, foreign.VerifyConnection = n2.ClientConfig().RootCAs, nil // it trusts us; we do not trust it
	shown := foreign.Certificates[0]
	// Shown whatever the server says that it takes.
	foreign.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
	tests := []struct {
		name       string
		config     *tls.Config
		path, auth string
		want       int // 0: no connection
		body       string
	}{
		{"a node", n2.NodeClientConfig(), "/orders", nodeToken, 200, "n2 [node]"},
		{"a node that asks for a name", n2.NodeClientConfig(), "/identity", pgcluster.IdentityToken(nodeToken), 200, "n2 [node]"},
		{"a node on a route of others", n2.NodeClientConfig(), "/view", nodeToken, 200, "n2 [node]"},
		{"a certificate without the token", n2.NodeClientConfig(), "/orders", "x", 401, "what they know each other by"},
		{"a certificate without the token, elsewhere", n2.NodeClientConfig(), "/view", "x", 401, "not known here"},
		{"the token without a certificate", n2.ClientConfig(), "/orders", nodeToken, 401, "a node shows a certificate"},
		{"the token without a certificate, for a name", n2.ClientConfig(), "/identity", pgcluster.IdentityToken(nodeToken), 401, "a node shows a certificate"},
		{"the token without a certificate, elsewhere", n2.ClientConfig(), "/view", nodeToken, 401, "a node shows a certificate"},
		{"a node that was removed", ours.store(t, "n3").NodeClientConfig(), "/orders", nodeToken, 403, "n3 does not belong to the cluster any more"},
		{"it asks whether it was", ours.store(t, "n3").NodeClientConfig(), "/identity", pgcluster.IdentityToken(nodeToken), 200, "n3 [node]"},
		{"a node that was removed, on a route of others", ours.store(t, "n3").NodeClientConfig(), "/view", nodeToken, 403, "n3 does not belong to the cluster any more"},
		{"a person without a certificate", n2.ClientConfig(), "/cluster", d.eva.text, 200, "eva [dba]"},
		{"a certificate of another CA", foreign, "/orders", nodeToken, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			transport := &http.Transport{TLSClientConfig: tt.config}
			defer transport.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+tt.auth)
			resp, err := (&http.Client{Transport: transport}).Do(req)
			if err != nil {
				if tt.want != 0 {
					t.Errorf("Do() = %v, want status %d", err, tt.want)
				}
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.want || !strings.Contains(string(body), tt.body) {
				t.Errorf("status %d %s, %v, want %d with %q", resp.StatusCode, body, err, tt.want, tt.body)
			}
		})
	}
}

// TestForwarded_needsACertificate sends the nodes' token with an address to believe,
// without the certificate of a node.
func TestForwarded_needsACertificate(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{RequireNodeCert: true})
	r := httptest.NewRequest(http.MethodPost, "/cluster", nil)
	r.Header = http.Header{
		"Authorization": {"Bearer " + d.eva.text}, "X-Xpd-Node-Token": {nodeToken}, "X-Xpd-Forwarded-For": {"198.51.100.1"},
	}
	r.RemoteAddr = "192.0.2.1:1"
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	if want := "eva [dba] 192.0.2.1 true"; w.Body.String() != want || d.guard.Forwarded(r) {
		t.Errorf("status %d %s, want %s", w.Code, w.Body, want)
	}
}
