package raftstore_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover/raftstore"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

var nodeIDs = []pgcluster.NodeID{"n1", "n2", "n3"}

// makeCerts makes or renews what the nodes of a cluster need, in folders named after them.
func makeCerts(t *testing.T, dir string, renew bool) {
	t.Helper()
	o := certs.Order{Dir: dir, Cluster: "test", CALife: 48 * time.Hour, NodeLife: 24 * time.Hour, Renew: renew}
	for _, id := range nodeIDs {
		o.Nodes = append(o.Nodes, certs.Request{Node: id, Hosts: []string{"127.0.0.1"}, Life: o.NodeLife})
	}
	if _, err := certs.Make(o); err != nil {
		t.Fatal(err)
	}
}

func openCerts(t *testing.T, dir string) *certs.Store {
	t.Helper()
	s, err := certs.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lines is where a node logs to.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) contain(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// secured is a group whose members show each other certificates.
type secured struct {
	*group

	stores map[pgcluster.NodeID]*certs.Store
	logs   map[pgcluster.NodeID]*lines
}

// startSecured starts a group with the certificates in folder, but for those in others.
func startSecured(t *testing.T, folder string, others map[pgcluster.NodeID]string, banned pgcluster.NodeID) secured {
	t.Helper()
	s := secured{stores: map[pgcluster.NodeID]*certs.Store{}, logs: map[pgcluster.NodeID]*lines{}}
	for _, id := range nodeIDs {
		dir := others[id]
		if dir == "" {
			dir = folder
		}
		s.stores[id] = openCerts(t, filepath.Join(dir, string(id)))
		s.logs[id] = &lines{}
	}
	s.group = startGroup(t, func(g *group) {
		g.log = func(id pgcluster.NodeID) *slog.Logger { return slog.New(slog.NewTextHandler(s.logs[id], nil)) }
		g.tls = func(id pgcluster.NodeID) *raftstore.TLS {
			allowed := func(who pgcluster.NodeID) bool { return who != banned }
			return &raftstore.TLS{
				Server: s.stores[id].NodeServerConfig(allowed), Client: s.stores[id].NodeClientConfig,
				Hold: func(conn net.Conn, peer []*x509.Certificate) func() { return s.stores[id].Hold(conn, peer, allowed) },
			}
		}
	})
	return s
}

// shown returns the certificate that the Raft port of id shows now.
func (s secured) shown(t *testing.T, id pgcluster.NodeID) *x509.Certificate {
	t.Helper()
	c, err := s.stores[id].DialTLS(t.Context(), "tcp", s.addr(id))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

func (s secured) addr(id pgcluster.NodeID) string {
	for _, m := range s.members {
		if m.ID == id {
			return m.RaftAddr()
		}
	}
	return ""
}

func TestTLS_renewedWithoutARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeCerts(t, dir, false)
	s := startSecured(t, dir, nil, "")
	s.wantEverywhere(state(1), s.save(state(1)))

	before := s.shown(t, "n2")
	makeCerts(t, dir, true)
	for _, store := range s.stores {
		if err := store.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	if s.shown(t, "n2").Equal(before) {
		t.Error("the Raft port shows the certificate of before it was renewed")
	}
	// Whoever comes back opens connections with the new certificates on both sides.
	s.stop("n3")
	s.start("n3")
	s.wantEverywhere(state(2), s.save(state(2)))
}

func TestTLS_foreignNodeStaysOut(t *testing.T) {
	t.Parallel()
	dir, foreign := t.TempDir(), t.TempDir()
	makeCerts(t, dir, false)
	makeCerts(t, foreign, false)
	s := startSecured(t, dir, map[pgcluster.NodeID]string{"n3": foreign}, "")
	index := s.save(state(1))
	eventually(t, "refusal by a node", func() bool {
		return s.logs["n1"].contain("refused") || s.logs["n2"].contain("refused")
	})
	eventually(t, "refusal by the foreign node", func() bool { return s.logs["n3"].contain("refused") })
	if _, at := s.nodes["n3"].State(); at != 0 {
		t.Errorf("the foreign node has applied index %d", at)
	}

	// The right certificates are all that it lacked.
	for _, name := range []string{certs.CAFile, certs.CertFile, certs.KeyFile} {
		content, err := os.ReadFile(filepath.Join(dir, "n3", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(foreign, "n3", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.stores["n3"].Reload(); err != nil {
		t.Fatal(err)
	}
	s.wantEverywhere(state(1), index)
}

func TestTLS_strangers(t *testing.T) {
	t.Parallel()
	dir, foreign := t.TempDir(), t.TempDir()
	makeCerts(t, dir, false)
	makeCerts(t, foreign, false)
	s := startSecured(t, dir, nil, "n3")
	s.leader() // n1 and n2 need nobody else
	trusting := s.stores["n1"].ClientConfig()
	trusting.ServerName = "127.0.0.1"
	theirs := openCerts(t, filepath.Join(foreign, "n2")).NodeClientConfig()
	theirs.RootCAs, theirs.ServerName = trusting.RootCAs, "127.0.0.1"
	removed := s.stores["n3"].NodeClientConfig()
	removed.ServerName = "127.0.0.1"
	tests := map[string]*tls.Config{
		"no TLS":                          nil,
		"no certificate":                  trusting,
		"a certificate of another CA":     theirs,
		"a node that does not belong now": removed,
	}
	for name, conf := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr("n1"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if conf != nil {
				c = tls.Client(c, conf)
			}
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			// The first byte of a request for votes. TLS 1.3 lets a client write before it
			// hears that it is refused.
			if _, err := c.Write(bytes.Repeat([]byte{1}, 100)); err == nil {
				_, err = c.Read(make([]byte, 1))
				if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Read() = %v, want that the connection was closed", err)
				}
			} else if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

// Nobody who says nothing is waited for, or keeps others from coming in.
func TestTLS_silentStranger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeCerts(t, dir, false)
	s := startSecured(t, dir, nil, "")
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr("n1"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.shown(t, "n1") // is let in meanwhile
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read() = %v, want that the connection was closed", err)
	}
}
