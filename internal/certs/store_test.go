package certs

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	ca, foreign := newAuthority(t), newAuthority(t)
	good := ca.node("n1", "n1.test")
	tests := []struct {
		name   string
		ca     []byte
		issued issued
		change func(t *testing.T, dir string)
		want   string
	}{
		{name: "good", ca: ca.pem, issued: good},
		{name: "two CAs", ca: append(append([]byte{}, foreign.pem...), ca.pem...), issued: good},
		{name: "expired", ca: ca.pem, issued: ca.odd(expired), want: "make another with xpd certs"},
		{name: "not valid yet", ca: ca.pem, issued: ca.odd(notYet), want: "set this host's clock"},
		{name: "of another CA", ca: foreign.pem, issued: good, want: "not from the CA in ca.crt"},
		{name: "no node's", ca: ca.pem, issued: ca.odd(withoutURN), want: "no node's"},
		{name: "for servers only", ca: ca.pem, issued: ca.odd(serverOnly), want: "both ends"},
		{name: "key of another", ca: ca.pem, issued: issued{good.cert, ca.node("n1").key}, want: "does not match"},
		{name: "half a certificate", ca: ca.pem, issued: issued{good.cert[:100], good.key}, want: "failed to find any PEM data"},
		{name: "no CA in ca.crt", ca: []byte("-"), issued: good, want: "no certificate in it"},
		{
			name: "no key", ca: ca.pem, issued: good, want: "node.key is missing: xpd certs makes it",
			change: func(t *testing.T, dir string) {
				t.Helper()
				if err := os.Remove(filepath.Join(dir, KeyFile)); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "a key that others read", ca: ca.pem, issued: good, want: "chmod 600",
			change: func(t *testing.T, dir string) { t.Helper(); chmod(t, filepath.Join(dir, KeyFile), 0o644) },
		},
		{
			name: "a CA that others write", ca: ca.pem, issued: good, want: "run chmod go-w ",
			change: func(t *testing.T, dir string) { t.Helper(); chmod(t, filepath.Join(dir, CAFile), 0o664) },
		},
		{
			name: "a certificate that others write", ca: ca.pem, issued: good, want: "node.crt (-rw-rw-rw-)",
			change: func(t *testing.T, dir string) { t.Helper(); chmod(t, filepath.Join(dir, CertFile), 0o666) },
		},
		{
			name: "a folder that others write", ca: ca.pem, issued: good, want: "run chmod go-w ",
			change: func(t *testing.T, dir string) { t.Helper(); chmod(t, dir, 0o770) },
		},
		{
			name: "a file that is no certificate's size", ca: ca.pem, issued: good, want: "at most",
			change: func(t *testing.T, dir string) { t.Helper(); write(t, dir, CAFile, make([]byte, maxFile+1)) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t, tt.ca, tt.issued)
			if tt.change != nil {
				tt.change(t, dir)
			}
			s, err := Open(dir, slog.New(slog.DiscardHandler))
			refusal(t, "Open()", err, tt.want)
			if err == nil && s.Node() != "n1" {
				t.Errorf("Node() = %s, want n1", s.Node())
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestStore_NotAfter counts the CA's end, too.
func TestStore_NotAfter(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key, err := ca.Issue(Request{Node: "n1", Hosts: []string{"n1.test"}, Life: 20 * day})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, folder(t, ca.pem, issued{cert, key}))
	if left := time.Until(s.NotAfter()); left > 10*day || left < 9*day {
		t.Errorf("%v left of a certificate of 20 days from a CA of 10", left)
	}
}

// TestStore_Reload replaces the files under configurations that are in use.
func TestStore_Reload(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	before, after := newAuthority(t), newAuthority(t)
	both := append(append([]byte{}, after.pem...), before.pem...)
	n1, n2 := before.store("n1"), before.store("n2")
	server := n1.NodeServerConfig(anyNode) // one for all of the test
	meet := func(t *testing.T) {
		t.Helper()
		got := connect(t, server, n2.NodeClientConfig(), "127.0.0.1")
		refusal(t, "server", got.server, "")
		refusal(t, "client", got.client, "")
	}
	replace := func(t *testing.T, s *Store, ca []byte, i issued) {
		t.Helper()
		changed := s.Changed()
		write(t, s.dir, CAFile, ca)
		write(t, s.dir, CertFile, i.cert)
		write(t, s.dir, KeyFile, i.key)
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
		default:
			t.Error("Changed() says nothing of new files")
		}
	}
	meet(t)
	t.Run("half of the new files changes nothing", func(t *testing.T) { //nolint:paralleltest // a step
		changed := n1.Changed()
		renewed := before.node("n1")
		write(t, n1.dir, CertFile, renewed.cert)
		refusal(t, "Reload()", n1.Reload(), "does not match")
		meet(t)
		write(t, n1.dir, CertFile, renewed.cert[:len(renewed.cert)/2])
		refusal(t, "Reload()", n1.Reload(), "PEM")
		meet(t)
		select {
		case <-changed:
			t.Error("Changed() speaks of files that were not taken")
		default:
		}
	})
	t.Run("a renewed certificate is shown", func(t *testing.T) { //nolint:paralleltest // a step
		renewed := before.odd(expired) // to be seen
		n1.now.Store(&files{roots: n1.now.Load().roots, pair: renewed.pair(t), node: "n1"})
		refusal(t, "client", connect(t, server, n2.NodeClientConfig(), "127.0.0.1").client, "expired")
		replace(t, n1, before.pem, before.node("n1"))
		meet(t)
	})
	t.Run("another node's files are not taken", func(t *testing.T) { //nolint:paralleltest // a step
		other := before.node("n3")
		write(t, n1.dir, CertFile, other.cert)
		write(t, n1.dir, KeyFile, other.key)
		refusal(t, "Reload()", n1.Reload(), "copy the folder of n1")
		meet(t)
	})
	// One node after the other, and they meet at every step.
	t.Run("the CA is replaced", func(t *testing.T) { //nolint:paralleltest // a step
		old1, old2 := before.node("n1"), before.node("n2")
		new1, new2 := after.node("n1"), after.node("n2")
		for _, step := range []func(){
			func() { replace(t, n1, both, old1) }, func() { replace(t, n2, both, old2) },
			func() { replace(t, n2, both, new2) }, func() { replace(t, n1, both, new1) },
			func() { replace(t, n1, after.pem, new1) }, func() { replace(t, n2, after.pem, new2) },
		} {
			step()
			meet(t)
		}
		got := connect(t, server, before.store("n2").NodeClientConfig(), "127.0.0.1")
		refusal(t, "the old CA's node", got.client, "unknown authority")
	})
}

// TestStore_PEM gives away a pair in one piece.
func TestStore_PEM(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	i := ca.node("n1")
	caPEM, node := open(t, folder(t, ca.pem, i)).PEM()
	if string(caPEM) != string(ca.pem) {
		t.Error("PEM() returns another CA")
	}
	both := issued{node, node}.pair(t)
	if string(both.Certificate[0]) != string(i.pair(t).Certificate[0]) {
		t.Error("PEM() returns another certificate")
	}
}
