package controller_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/controller"
	"github.com/xpd-platform/xpd/pgcluster"
)

// fakeLog is a log of states in memory, and the leadership over it.
type fakeLog struct {
	leader chan bool

	mu        sync.Mutex
	term      uint64
	leads     bool
	state     failover.State
	index     uint64
	saved     map[uint64]failover.State
	changed   chan struct{}
	intrude   func(*failover.State) // applied as somebody else's change before the next Save
	transfers []pgcluster.NodeID
	servers   []failover.Server
	changes   []failover.GroupChange
}

func newFakeLog(s failover.State) *fakeLog {
	l := &fakeLog{leader: make(chan bool, 1), term: 7, state: s, changed: make(chan struct{}), saved: map[uint64]failover.State{}}
	for _, m := range members() {
		l.servers = append(l.servers, failover.Server{ID: m.ID, Addr: m.RaftAddr(), Voter: true})
	}
	if len(s.Members) > 0 {
		l.index = 10
		l.saved[l.index] = s
	}
	return l
}

func (l *fakeLog) State() (failover.State, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.index
}

func (l *fakeLog) Save(_ context.Context, base uint64, s failover.State) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.intrude; f != nil {
		l.intrude = nil
		other := l.state
		f(&other)
		l.set(other)
	}
	switch {
	case !l.leads:
		return 0, failover.ErrNotLeader
	case base != l.index:
		return 0, failover.ErrStale
	}
	l.set(s)
	return l.index, nil
}

func (l *fakeLog) set(s failover.State) {
	l.index++
	l.state = s
	l.saved[l.index] = s
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *fakeLog) Changed(after uint64) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.index > after {
		past := make(chan struct{})
		close(past)
		return past
	}
	return l.changed
}

func (l *fakeLog) LeaderCh() <-chan bool { return l.leader }

func (l *fakeLog) Barrier(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leads {
		return 0, failover.ErrNotLeader
	}
	return l.term, nil
}

func (l *fakeLog) Term() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

func (l *fakeLog) TransferLeadership(_ context.Context, to pgcluster.NodeID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.transfers = append(l.transfers, to)
	return errors.New("it does not want to")
}

func (l *fakeLog) Servers() []failover.Server {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.servers)
}

func (l *fakeLog) ChangeGroup(_ context.Context, c failover.GroupChange) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, c)
	l.servers = slices.DeleteFunc(l.servers, func(s failover.Server) bool { return s.ID == c.Server.ID })
	if c.Step != failover.GroupRemove {
		l.servers = append(l.servers, c.Server)
	}
	return nil
}

// change replaces the state as another controller's decision would.
func (l *fakeLog) change(f func(*failover.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	f(&s)
	l.set(s)
}

// lead makes this node leader in the next term, or no leader.
func (l *fakeLog) lead(yes bool) {
	l.mu.Lock()
	l.leads = yes
	if yes {
		l.term++
	}
	l.mu.Unlock()
	l.leader <- yes
}

func (l *fakeLog) op() *failover.Operation {
	s, _ := l.State()
	return s.Op
}

// fakeNodes are agents that report what they are told to and keep the orders that
// they get.
type fakeNodes struct {
	log *fakeLog

	mu       sync.Mutex
	reports  map[pgcluster.NodeID]pgcluster.Report
	changed  chan struct{}
	silent   map[pgcluster.NodeID]bool // neither reports nor takes orders; calls hang
	orders   []pgcluster.Order
	inFlight map[pgcluster.NodeID]int
	wrong    []string // breaches of what the controller promises
}

func newFakeNodes(l *fakeLog, reports ...pgcluster.Report) *fakeNodes {
	n := &fakeNodes{
		log: l, reports: map[pgcluster.NodeID]pgcluster.Report{}, changed: make(chan struct{}),
		silent: map[pgcluster.NodeID]bool{}, inFlight: map[pgcluster.NodeID]int{},
	}
	for _, r := range reports {
		r.Seq = 1
		n.reports[r.Node] = r
	}
	return n
}

// set changes a report and wakes who waits for that.
func (n *fakeNodes) set(id pgcluster.NodeID, change func(*pgcluster.Report)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.reports[id]
	r.Seq++
	change(&r)
	n.reports[id] = r
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *fakeNodes) silence(id pgcluster.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent[id] = true
}

func (n *fakeNodes) Report(ctx context.Context, id pgcluster.NodeID, after uint64, wait time.Duration) (pgcluster.Report, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		n.mu.Lock()
		r, changed, silent := n.reports[id], n.changed, n.silent[id]
		n.mu.Unlock()
		if silent {
			<-ctx.Done()
			return pgcluster.Report{}, ctx.Err()
		}
		if r.Seq > after {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return pgcluster.Report{}, ctx.Err()
		case <-timer.C:
			return r, nil
		case <-changed:
		}
	}
}

func (n *fakeNodes) Order(ctx context.Context, o pgcluster.Order) error {
	n.log.mu.Lock()
	s, saved := n.log.saved[o.Stamp.Index]
	n.log.mu.Unlock()

	n.mu.Lock()
	n.inFlight[o.Node]++
	if n.inFlight[o.Node] > 1 {
		n.wrong = append(n.wrong, fmt.Sprintf("two orders under way to %s", o.Node))
	}
	switch {
	case !saved:
		n.wrong = append(n.wrong, fmt.Sprintf("%s rests on index %d, which was never saved", o.Kind, o.Stamp.Index))
	case s.Op != nil && o.Stamp.Epoch != s.Op.Epoch && o.Stamp.Epoch != s.Primary.Epoch:
		n.wrong = append(n.wrong, fmt.Sprintf("%s is about epoch %d, which index %d does not know", o.Kind, o.Stamp.Epoch, o.Stamp.Index))
	}
	silent := n.silent[o.Node]
	if !silent {
		n.orders = append(n.orders, o)
	}
	n.mu.Unlock()
	if silent {
		<-ctx.Done()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inFlight[o.Node]--
	return ctx.Err()
}

// Identity answers as a node that has applied all there is. One that is silent hangs.
func (n *fakeNodes) Identity(ctx context.Context, id pgcluster.NodeID) (pgcluster.Identity, error) {
	n.mu.Lock()
	_, there := n.reports[id]
	silent := n.silent[id]
	n.mu.Unlock()
	switch {
	case silent:
		<-ctx.Done()
		return pgcluster.Identity{}, ctx.Err()
	case !there:
		return pgcluster.Identity{}, errors.New("nobody answers")
	case ctx.Err() != nil:
		return pgcluster.Identity{}, ctx.Err()
	}
	_, index := n.log.State()
	return pgcluster.Identity{Node: id, Applied: index}, nil
}

// sent returns the orders so far to id, or to all nodes if id is empty.
func (n *fakeNodes) sent(id pgcluster.NodeID) []pgcluster.Order {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.orders), func(o pgcluster.Order) bool { return id != "" && o.Node != id })
}

func members() []pgcluster.Member {
	return []pgcluster.Member{{ID: "n1"}, {ID: "n2"}, {ID: "n3"}}
}

// steadyState is a cluster with primary n1, open in epoch 3.
func steadyState() failover.State {
	return failover.State{
		Members: members(), SystemID: "sys", Ops: 3,
		Primary: failover.Primary{Node: "n1", Epoch: 3, Access: failover.AccessOpen},
		Sync:    failover.Sync{Durable: pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2", "n3"}, K: 1}},
		Floor:   pgcluster.Position{Timeline: 1, LSN: 100},
		Epochs:  []failover.Epoch{{Epoch: 3, Node: "n1", Timeline: 1}},
	}
}

// steadyReports are what the nodes of steadyState say when all is well.
func steadyReports() []pgcluster.Report {
	at := pgcluster.Position{Timeline: 1, LSN: 200}
	primary := pgcluster.Report{
		Node: "n1", SystemID: "sys", Process: pgcluster.ProcessRunning, Role: pgcluster.RolePrimary,
		Position: at, PositionKnown: true, Pledged: pgcluster.Stamp{Epoch: 3}, Led: 3, Barrier: 3, Open: 3, SyncNames: steadyState().Sync.Durable.Names(),
	}
	out := []pgcluster.Report{primary}
	for _, id := range []pgcluster.NodeID{"n2", "n3"} {
		out[0].Senders = append(out[0].Senders, pgcluster.Sender{Node: id, Streaming: true, SyncPriority: 1, Flushed: 200})
		out = append(out, pgcluster.Report{
			Node: id, SystemID: "sys", Process: pgcluster.ProcessRunning, Role: pgcluster.RoleStandby,
			Position: at, PositionKnown: true, Pledged: pgcluster.Stamp{Epoch: 3}, Followed: 3, Receiver: pgcluster.Receiver{Upstream: "n1", Streaming: true},
			Order: pgcluster.OrderStatus{Kind: pgcluster.OrderFollow, Stamp: pgcluster.Stamp{Epoch: 3}, Upstream: "n1", Timeline: 1, Done: true},
		})
	}
	return out
}

// run starts a controller on node self inside a bubble; it must end cleanly.
func run(t *testing.T, self pgcluster.NodeID, l *fakeLog, n *fakeNodes) *controller.Controller {
	t.Helper()
	c := controller.New(controller.Options{
		Self: self, Members: members(), Policy: failover.DefaultPolicy(),
		Log: l, Leadership: l, Group: l, Nodes: n,
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		for _, w := range n.wrong {
			t.Error(w)
		}
	})
	synctest.Wait()
	return c
}
