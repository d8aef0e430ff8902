package pool_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster/pool"
)

// switchedLease is held, by reads or by all, while a test says so.
type switchedLease struct {
	mu            sync.Mutex
	reads, writes bool
	changed       chan struct{}
	asked         chan struct{} // gets a value, if it has room, whenever somebody must wait
}

func newLease() *switchedLease {
	return &switchedLease{reads: true, writes: true, changed: make(chan struct{}), asked: make(chan struct{}, 1)}
}

func (l *switchedLease) Awaits(_ uint64, writes bool) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if writes && l.writes || !writes && l.reads {
		return nil
	}
	select {
	case l.asked <- struct{}{}:
	default:
	}
	return l.changed
}

func (l *switchedLease) set(reads, writes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads, l.writes = reads, writes
	close(l.changed)
	l.changed = make(chan struct{})
}

// Reads wait for a lease, writes only where they need it too, and what ran while the
// lease ended runs again.
func TestPools_waitForTheLease(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	lease := newLease()
	p := startWith(t, c, func(o *pool.Options) { o.Lease = lease })
	p.Retarget(target(1, c, 0))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	read := func(context.Context, *pgx.Conn) error { return nil }

	lease.set(false, true)
	if err := p.Do(ctx, write(1, nil)); err != nil {
		t.Errorf("Do() of a write that needs no lease = %v", err)
	}
	done := make(chan error, 1)
	short, stop := context.WithCancel(ctx)
	go func() { done <- p.Read(short, read) }()
	<-lease.asked
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) || errors.Is(err, pool.ErrUnknown) {
		t.Errorf("Read() without a lease = %v, want that it waited", err)
	}

	select { // of somebody who waits no more
	case <-lease.asked:
	default:
	}
	go func() { done <- p.Read(ctx, read) }()
	<-lease.asked
	lease.set(true, true)
	if err := <-done; err != nil {
		t.Errorf("Read() after the lease was renewed = %v", err)
	}

	for _, tt := range []struct {
		name string
		run  func(context.Context, pool.Func) error
	}{{"Read", p.Read}, {"Do", p.Do}} {
		select { // of somebody who waits no more
		case <-lease.asked:
		default:
		}
		runs := 0
		go func() {
			done <- tt.run(ctx, func(context.Context, *pgx.Conn) error {
				if runs++; runs == 1 {
					lease.set(false, false)
				}
				return nil
			})
		}()
		<-lease.asked // the answer came too late, and it waits to run again
		lease.set(true, true)
		if err := <-done; err != nil || runs != 2 {
			t.Errorf("%s() over the end of a lease = %v after %d runs, want nil after 2", tt.name, err, runs)
		}
	}
}
