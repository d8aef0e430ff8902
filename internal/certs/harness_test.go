package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// authority is a CA under test.
type authority struct {
	*CA

	t   *testing.T
	pem []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	cert, key, err := NewCA("test", 10*day)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ParseCA(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return authority{CA: ca, t: t, pem: cert}
}

// issued is a certificate and its key.
type issued struct{ cert, key []byte }

func (a authority) node(id pgcluster.NodeID, hosts ...string) issued {
	a.t.Helper()
	cert, key, err := a.Issue(Request{Node: id, Hosts: append(hosts, "127.0.0.1"), Life: 5 * day})
	if err != nil {
		a.t.Fatal(err)
	}
	return issued{cert, key}
}

// odd issues a certificate that is not what Issue makes.
func (a authority) odd(change func(*x509.Certificate)) issued {
	a.t.Helper()
	c, err := x509.ParseCertificate(a.node("n1", "n1.test").pair(a.t).Certificate[0])
	if err != nil {
		a.t.Fatal(err)
	}
	change(c)
	cert, key, err := a.sign(c)
	if err != nil {
		a.t.Fatal(err)
	}
	return issued{cert, key}
}

func withoutURN(c *x509.Certificate) { c.URIs = nil }
func serverOnly(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }
func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-2*day), time.Now().Add(-day)
}
func notYet(c *x509.Certificate)      { c.NotBefore = time.Now().Add(day) }
func ofTwoNodes(c *x509.Certificate)  { c.URIs = append(c.URIs, c.URIs[0]) }
func ofNoNodeID(c *x509.Certificate)  { u := *c.URIs[0]; u.Opaque = "xpd:node:N 1"; c.URIs[0] = &u }
func noHostAtAll(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }

func (i issued) pair(t *testing.T) tls.Certificate {
	t.Helper()
	p, err := tls.X509KeyPair(i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// folder writes a TLS folder.
func folder(t *testing.T, ca []byte, i issued) string {
	t.Helper()
	dir := t.TempDir()
	chmod(t, dir, 0o700) // whatever the umask
	write(t, dir, CAFile, ca)
	write(t, dir, CertFile, i.cert)
	write(t, dir, KeyFile, i.key)
	return dir
}

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (a authority) store(id pgcluster.NodeID, hosts ...string) *Store {
	a.t.Helper()
	return open(a.t, folder(a.t, a.pem, a.node(id, hosts...)))
}

// outcome is how the two ends of a connection saw it.
type outcome struct {
	peer           tls.ConnectionState // as the server saw the client
	server, client error
}

// connect makes a connection over TCP to what goes by name, and sends a byte each way.
func connect(t *testing.T, server, client *tls.Config, name string) outcome {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var o outcome
	served := make(chan struct{})
	go func() {
		defer close(served)
		raw, err := ln.Accept()
		if err != nil {
			o.server = err
			return
		}
		conn := tls.Server(raw, server)
		defer conn.Close()
		if o.server = conn.Handshake(); o.server == nil {
			o.peer = conn.ConnectionState()
			_, o.server = io.CopyN(conn, conn, 1)
		}
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client = client.Clone()
	client.ServerName = name
	conn := tls.Client(raw, client)
	_, err = conn.Write([]byte{1})
	if err == nil {
		// With TLS 1.3 a client learns only now that it was refused.
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	o.client = errors.Join(err, raw.Close())
	<-served
	return o
}
