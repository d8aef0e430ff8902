package pool_test

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster/pool"
)

// gate passes connections on to a server, but none that is made while it is shut.
type gate struct {
	net.Listener

	server string
	opened sync.Mutex // held while it is shut
	came   atomic.Int64
}

func newGate(t *testing.T, server string) *gate {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: l, server: server}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.pass(c)
		}
	}()
	return g
}

func (g *gate) pass(c net.Conn) {
	defer c.Close()
	g.came.Add(1)
	g.opened.Lock()
	g.opened.Unlock() //nolint:staticcheck // it waits until the gate is open
	up, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", g.server)
	if err != nil {
		return
	}
	go func() {
		defer up.Close()
		_, _ = io.Copy(up, c)
	}()
	_, _ = io.Copy(c, up)
}

// A crowd does not wait for sessions of its own while others can serve it.
func TestDo_servesACrowdByTheSessionsThatAreThere(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	m := c.Members()[0]
	g := newGate(t, m.PGAddr())
	const crowd, room = 100, 40 // room is for far more sessions than are kept
	p := startWith(t, c, func(o *pool.Options) {
		o.MaxConns, o.MaxWaiting = room, crowd
		_, port, err := net.SplitHostPort(g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		o.Members[0].Host = "127.0.0.1"
		if o.Members[0].PGPort, err = strconv.Atoi(port); err != nil {
			t.Fatal(err)
		}
	})
	g.opened.Lock()
	before := g.came.Load()
	served := make(chan struct{}, crowd)
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			err := p.Do(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, "SELECT")
				return err
			})
			if err != nil {
				t.Errorf("Do() = %v", err)
			}
			served <- struct{}{}
		})
	}
	p.Retarget(target(1, c, 0))
	const opening = 2 // who opens a session has to wait for it
	for range crowd - opening {
		<-served
	}
	// Some more if it took so long that they were tried again.
	if came := g.came.Load() - before; came >= room-minConns {
		t.Errorf("%d sessions were opened at a time, as many as there was room for", came)
	}
	g.opened.Unlock()
	all.Wait()
}
