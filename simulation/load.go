package simulation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

const (
	// maxInFlight bounds the requests that wait for an answer. It is far above what
	// a pause of some seconds piles up; a request that is due beyond it fails.
	maxInFlight = 10_000
	// patience is how long a shopper waits for an answer, over all nodes and tries.
	patience = 30 * time.Second
	// attemptPatience bounds one try at one node, a little above the time after
	// which a node gives up itself.
	attemptPatience = 20 * time.Second
	// deadPeer is how long a host may leave packets unacknowledged.
	deadPeer = 2 * time.Second
)

// load sends streams of requests to a cluster and records what comes back.
type load struct {
	urls    [][]string // for the nodes in turn: all URLs, that node's first
	http    *http.Client
	token   func() string // of now: tokens are renewed while a load runs
	turn    atomic.Uint64
	keys    []string // of the experiments
	journal *journal
	latency recorder

	made, failed, retried, turnedAway atomic.Int64
	mu                                sync.Mutex
	failures                          []string
}

func newLoad(cluster *localcluster.Cluster, j *journal) *load {
	urls := cluster.URLs()
	l := &load{
		journal: j,
		token:   func() string { return cluster.Token(access.RoleAssign, access.RoleIngest) },
		http: &http.Client{
			Timeout: attemptPatience,
			Transport: &http.Transport{
				DialContext: (&net.Dialer{
					Timeout: time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2},
					Control: noticeDeath,
				}).DialContext,
				TLSClientConfig:     cluster.Trust(),
				MaxIdleConnsPerHost: maxInFlight,
			},
		},
	}
	for i := range urls {
		l.urls = append(l.urls, slices.Concat(urls[i:], urls[:i]))
	}
	for _, d := range shop() {
		l.keys = append(l.keys, d.Key)
	}
	return l
}

// noticeDeath makes a connection fail whose peer does not acknowledge any more,
// instead of waiting for an answer from a host that is gone.
func noticeDeath(_, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadPeer.Milliseconds()))
	})
	return errors.Join(controlErr, err)
}

// run sends each arrival when it is due after start, whatever became of the ones
// before, until enough is closed. Then it waits for all answers. If ctx ends, it
// gives up on them.
func (l *load) run(ctx context.Context, start time.Time, next func() arrival, enough <-chan struct{}) {
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	slots := make(chan struct{}, maxInFlight)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		a := next()
		due := start.Add(a.at)
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-enough:
			return
		case <-ctx.Done():
			return
		}
		l.made.Add(1)
		select {
		case slots <- struct{}{}:
		default:
			l.turnedAway.Add(1)
			continue
		}
		inFlight.Go(func() {
			l.send(ctx, a, due)
			<-slots
		})
	}
}

// send carries out one arrival and records it.
func (l *load) send(ctx context.Context, a arrival, due time.Time) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A client of its own starts with the node whose turn it is; connections are
	// shared.
	turn := l.turn.Add(1)
	c, err := client.NewWith(l.urls[turn%uint64(len(l.urls))], client.Options{HTTP: l.http, Token: l.token()})
	if err == nil {
		err = l.do(ctx, c, a)
	}
	took := time.Since(due)
	if err != nil {
		l.fail(a, err)
		return
	}
	if c.Stats().Retries > 0 {
		l.retried.Add(1)
	}
	l.latency.add(sample{kind: a.kind, due: due, took: took})
}

func (l *load) do(ctx context.Context, c *client.Client, a arrival) error {
	unit := client.Unit{Type: unitType, ID: l.journal.unitID(a.unit)}
	switch a.kind {
	case kindNew, kindReturning:
		began := time.Now()
		got, err := c.Treatments(ctx, unit)
		if err != nil {
			return err
		}
		ended := time.Now()
		l.journal.treatments(a.unit, got, a.kind == kindNew, ended)
		l.journal.answered(a.unit, got, began, ended)
		return nil
	case kindExposure:
		known := l.journal.knows(a.unit, l.keys)
		began := time.Now()
		got, err := c.Expose(ctx, unit, time.Time{}, l.keys...)
		if err != nil {
			return err
		}
		l.journal.exposures(a.unit, known, got)
		l.journal.answeredExposures(a.unit, got, began, time.Now())
		return nil
	case kindPurchase:
		return l.purchase(ctx, c, unit, a)
	case kindPing:
		return c.Ping(ctx)
	}
	return fmt.Errorf("simulation: invalid kind %d", a.kind)
}

func (l *load) purchase(ctx context.Context, c *client.Client, unit client.Unit, a arrival) error {
	got, err := c.Record(ctx, []client.Event{{
		ID: a.event.String(), Unit: unit, Type: experiment.EventPurchase, OccurredAt: time.Now().UTC(),
		ItemsTotal: &a.itemsTotal, Discounts: &a.discounts, Currency: "EUR",
	}})
	if err != nil {
		return err
	}
	if len(got) != 1 || got[0].Result == client.EventRejected {
		return fmt.Errorf("purchase was not stored: %+v", got)
	}
	l.journal.event(a.event)
	return nil
}

// fail counts a request without an answer. One that this process gave up on is no
// failure of the service.
func (l *load) fail(a arrival, err error) {
	if errors.Is(err, context.Canceled) {
		l.made.Add(-1)
		return
	}
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failures) < maxComplaints {
		l.failures = append(l.failures, fmt.Sprintf("%s, due %s after the start: %s", a.kind, a.at.Round(time.Millisecond), err))
	}
}

// counts sums up the requests so far.
func (l *load) counts() Requests {
	return Requests{
		Made: l.made.Load(), Failed: l.failed.Load() + l.turnedAway.Load(),
		Retried: l.retried.Load(), TurnedAway: l.turnedAway.Load(),
	}
}

// Requests counts the requests of a stream.
type Requests struct {
	Made       int64 `json:"made"`
	Failed     int64 `json:"failed"`      // without a good answer, however often retried
	Retried    int64 `json:"retried"`     // answered, at the second try or later
	TurnedAway int64 `json:"turned_away"` // failed because too many were waiting: the load was too much for this machine
}
