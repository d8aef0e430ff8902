package certs

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// TestStore_Hold lets what let connections in come to an end.
func TestStore_Hold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca, err := longCA(t)
		if err != nil {
			t.Fatal(err)
		}
		next, err := longCA(t)
		if err != nil {
			t.Fatal(err)
		}
		dir := folder(t, ca.pem, ca.until(2*warnBefore))
		s, err := Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()

		var removed atomic.Pointer[pgcluster.NodeID]
		allowed := func(id pgcluster.NodeID) bool { gone := removed.Load(); return gone == nil || *gone != id }
		hold := func(i issued) (closed func() bool) {
			inside, outside := net.Pipe()
			var over atomic.Bool
			release := s.Hold(inside, []*x509.Certificate{i.pair(t).Leaf}, allowed)
			go func() {
				_, err := outside.Read(make([]byte, 1))
				over.Store(err != nil)
				release()
			}()
			t.Cleanup(func() { _ = inside.Close() })
			return over.Load
		}
		look := func(what string, conns map[string]func() bool, want map[string]bool) {
			t.Helper()
			time.Sleep(2 * lookInterval) // the bubble's clock
			synctest.Wait()
			for name, closed := range conns {
				if closed() != want[name] {
					t.Errorf("%s: the connection of %s is closed: %v, want %v", what, name, closed(), want[name])
				}
			}
		}
		conns := map[string]func() bool{
			"n1 for an hour": hold(ca.until(time.Hour)), "n1": hold(ca.until(warnBefore)),
			"n2": hold(ca.node("n2")), "a node of the next CA": hold(next.node("n3")),
		}
		look("at first", conns, map[string]bool{"a node of the next CA": true})
		time.Sleep(time.Hour)
		look("after an hour", conns, map[string]bool{"a node of the next CA": true, "n1 for an hour": true})
		n2 := pgcluster.NodeID("n2")
		removed.Store(&n2)
		look("n2 is removed", conns, map[string]bool{"a node of the next CA": true, "n1 for an hour": true, "n2": true})

		both := append(append([]byte{}, next.pem...), ca.pem...)
		write(t, dir, CAFile, both)
		conns = map[string]func() bool{"the old": hold(ca.node("n1")), "the new": hold(next.node("n1"))}
		look("two CAs", conns, nil)
		i := next.until(warnBefore)
		write(t, dir, CertFile, i.cert)
		write(t, dir, KeyFile, i.key)
		write(t, dir, CAFile, next.pem)
		look("one CA", conns, map[string]bool{"the old": true})
		if len(s.held) != 1 {
			t.Errorf("%d connections are held, want 1", len(s.held))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
