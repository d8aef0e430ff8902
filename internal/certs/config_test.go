package certs

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

func anyNode(pgcluster.NodeID) bool { return true }

// refusal checks an error against a part of its text; "" wants none.
func refusal(t *testing.T, who string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v, want no error", who, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: %v, want an error with %q", who, err, want)
	}
}

// TestHandshake_server has a good server meet clients of all kinds.
func TestHandshake_server(t *testing.T) {
	t.Parallel()
	ca, foreign := newAuthority(t), newAuthority(t)
	s := ca.store("n1", "n1.test")
	// with makes a client that shows a certificate, whatever it is good for.
	with := func(i issued) *tls.Config {
		c := s.ClientConfig()
		pair := i.pair(t)
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		return c
	}
	old := ca.store("n2").NodeClientConfig()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	tests := []struct {
		name       string
		client     *tls.Config
		http, node string // why each listener refuses
		id         pgcluster.NodeID
	}{
		{name: "another node", client: ca.store("n2").NodeClientConfig(), id: "n2"},
		{name: "no certificate", client: s.ClientConfig(), node: "didn't provide a certificate"},
		{name: "a node that is no member", client: ca.store("n9").NodeClientConfig(), id: "n9", node: "node n9 is not expected here"},
		{name: "a certificate that names no node", client: with(ca.odd(withoutURN)), node: "no node's"},
		{name: "a certificate that names two nodes", client: with(ca.odd(ofTwoNodes)), node: "no node's"},
		{name: "a certificate for what is no name of a node", client: with(ca.odd(ofNoNodeID)), node: "no node's"},
		{name: "a certificate for servers", client: with(ca.odd(serverOnly)), http: "incompatible key usage", node: "incompatible key usage"},
		{name: "an expired certificate", client: with(ca.odd(expired)), http: "expired", node: "expired"},
		{name: "a foreign CA", client: with(foreign.node("n2")), http: "unknown authority", node: "unknown authority"},
		{name: "an old version of TLS", client: old, http: "unsupported versions", node: "unsupported versions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := connect(t, s.ServerConfig(), tt.client, "n1.test")
			refusal(t, "HTTP", got.server, tt.http)
			if id, ok := NodeOf(&got.peer); id != tt.id || ok != (tt.id != "") {
				t.Errorf("NodeOf() = %q, %v, want %q", id, ok, tt.id)
			}
			allowed := func(id pgcluster.NodeID) bool { return id != "n9" }
			got = connect(t, s.NodeServerConfig(allowed), tt.client, "n1.test")
			refusal(t, "Raft", got.server, tt.node)
			if tt.node != "" && got.client == nil {
				t.Error("a refused client could read")
			}
		})
	}
}

// TestHandshake_client has good clients meet servers of all kinds.
func TestHandshake_client(t *testing.T) {
	t.Parallel()
	ca, foreign := newAuthority(t), newAuthority(t)
	n2 := ca.store("n2")
	file := filepath.Join(n2.dir, CAFile)
	person, err := LoadCA(file)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name         string
		server       issued
		host         string
		node, person string // why each client refuses
	}{
		{name: "by name", server: ca.node("n1", "n1.test"), host: "n1.test"},
		{name: "by address", server: ca.node("n1", "n1.test"), host: "127.0.0.1"},
		{name: "by a wrong name", server: ca.node("n1", "n1.test"), host: "n3.test", node: "not n3.test", person: "not n3.test"},
		{name: "by a wrong address", server: ca.node("n1", "n1.test"), host: "127.0.0.3", node: "not 127.0.0.3", person: "not 127.0.0.3"},
		{name: "no names", server: ca.odd(noHostAtAll), host: "n1.test", node: "not valid for any names", person: "not valid for any names"},
		{name: "no node", server: ca.odd(withoutURN), host: "n1.test", node: "no node's"},
		{name: "expired", server: ca.odd(expired), host: "n1.test", node: "expired", person: "expired"},
		{name: "a foreign CA", server: foreign.node("n1", "n1.test"), host: "n1.test", node: "unknown authority", person: "unknown authority"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{tt.server.pair(t)}}
			refusal(t, "a node", connect(t, server, n2.NodeClientConfig(), tt.host).client, tt.node)
			refusal(t, "a person", connect(t, server, n2.ClientConfig(), tt.host).client, tt.person)
			refusal(t, "a person with ca.crt", connect(t, server, person, tt.host).client, tt.person)
		})
	}
}

// TestStore_DialTLS takes the name of the address that it dials.
func TestStore_DialTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	n1, n2 := ca.store("n1"), ca.store("n2")
	ln, err := tls.Listen("tcp", "127.0.0.1:0", n1.NodeServerConfig(anyNode))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte{1})
			_ = conn.Close()
		}
	}()
	conn, err := n2.DialTLS(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	_, err = n2.DialTLS(t.Context(), "tcp", net.JoinHostPort("localhost", port))
	refusal(t, "by another name", err, "wanted to match localhost")
}

func TestLoadCA(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "junk", []byte("junk"))
	for name, want := range map[string]string{"absent": "no such file", "junk": "no certificate in it"} {
		_, err := LoadCA(filepath.Join(dir, name))
		refusal(t, name, err, want)
	}
}
