package raftstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Options says where a node's Raft lives. All fields but Join and TLS are required.
type Options struct {
	Node       pgcluster.NodeID
	Members    []pgcluster.Member // the first voters, the same on each of them; of no interest later
	Join       bool               // be no voter at first, but wait to be added to a group
	Dir        string             // made if it is missing
	ListenAddr string             // the others reach it as the member's RaftAddr
	TLS        *TLS               // nil: whoever reaches ListenAddr is believed to be a node
	Logger     *slog.Logger
	Registry   prometheus.Registerer
}

// Bounds of Raft. A follower that hears nothing for heartbeat to twice that starts
// an election; a leader that reaches no majority for lease gives up.
const (
	heartbeat      = time.Second
	lease          = 500 * time.Millisecond
	commitInterval = 10 * time.Millisecond
	rpcTimeout     = time.Second
	enqueueTimeout = time.Second

	// The state is rewritten whole, so a few entries replace a long log.
	snapshotEvery   = 256
	snapshotTrail   = 128
	snapshotCheck   = 30 * time.Second
	snapshotsKept   = 2
	cachedEntries   = 256
	connsPerPeer    = 3
	fileLockTimeout = 2 * time.Second
)

// Store is this node's part of the Raft group. Its methods may be called by
// several goroutines at once.
type Store struct {
	raft  *raft.Raft
	fsm   *fsm
	gates *gates
	fresh bool
	close func() error

	barrier atomic.Uint64 // term of the last Barrier that was passed
	touch   touch
}

// Open starts this node's Raft, on a folder that no other process has open. Raft
// takes part in elections from now on; the caller must call Run, which also frees
// what Open took.
func Open(o Options) (_ *Store, err error) {
	var opened closers
	defer func() {
		if err != nil {
			_ = opened.close() // err says more
		}
	}()
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make Raft folder: %w", err)
	}
	conf, self, err := o.configuration()
	if err != nil {
		return nil, err
	}
	logger := raftLogger(o.Logger)
	db, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(o.Dir, "raft.db"), BoltOptions: &bbolt.Options{Timeout: fileLockTimeout},
	})
	if err != nil {
		return nil, fmt.Errorf("open Raft log (is another xpd running on %s?): %w", o.Dir, err)
	}
	opened.add(db.Close)
	logs := watched{db, newDisk()}
	cache, err := raft.NewLogCache(cachedEntries, logs)
	if err != nil {
		return nil, fmt.Errorf("cache Raft log: %w", err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(o.Dir, snapshotsKept, logger)
	if err != nil {
		return nil, fmt.Errorf("open Raft snapshots: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", o.ListenAddr)
	if err != nil {
		return nil, fmt.Errorf("listen for Raft: %w", err)
	}
	trans := patient{gates: newGates(), disk: logs.disk, NetworkTransport: newTransport(newStream(l, string(self), o.TLS, o.Logger), logger)}
	opened.add(trans.Close)
	opened.add(func() error { trans.CloseStreams(); return nil }) // Close keeps idle ones open

	rc := raftConfig(o.Node, logger)
	fresh, err := o.bootstrap(rc, conf, cache, db, snaps, trans)
	if err != nil {
		return nil, err
	}
	f := newFSM()
	r, err := raft.NewRaft(rc, f, cache, db, snaps, trans)
	if err != nil {
		return nil, fmt.Errorf("start Raft: %w", err)
	}
	register(o.Registry, r)
	return &Store{raft: r, fsm: f, gates: trans.gates, fresh: fresh, close: opened.close}, nil
}

// configuration returns the voters and the address of this node.
func (o Options) configuration() (raft.Configuration, raft.ServerAddress, error) {
	var conf raft.Configuration
	var self raft.ServerAddress
	for _, m := range o.Members {
		s := raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.RaftAddr())}
		conf.Servers = append(conf.Servers, s)
		if m.ID == o.Node {
			self = s.Address
		}
	}
	if self == "" {
		return conf, "", fmt.Errorf("node %s is not a member of its own cluster", o.Node)
	}
	return conf, self, nil
}

// bootstrap writes the first configuration into an empty log, and reports whether it
// was empty. Every first voter writes the same one, so it does not matter who is
// first; who joins a group writes none and gets that of the leader.
func (o Options) bootstrap(rc *raft.Config, conf raft.Configuration, logs raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore, trans raft.Transport) (fresh bool, err error) {
	exists, err := raft.HasExistingState(logs, stable, snaps)
	if err != nil {
		return false, fmt.Errorf("read Raft folder: %w", err)
	}
	if exists || o.Join {
		return !exists, nil
	}
	if err := raft.BootstrapCluster(rc, logs, stable, snaps, trans, conf); err != nil {
		return false, fmt.Errorf("bootstrap Raft: %w", err)
	}
	return true, nil
}

// closers close what was opened, last first.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var errs []error
	for _, f := range slices.Backward(*c) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// Snapshot makes what is applied now what this node knows as soon as it is opened again:
// of entries in the log Raft learns only from a leader that they count.
func (s *Store) Snapshot() error {
	if err := s.raft.Snapshot().Error(); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Run blocks until ctx ends and then leaves the group cleanly: a leader hands
// over first, so that the others need no election timeout.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(touchEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			s.touch.see(time.Now(), s.Leader() != "")
		}
	}
	if s.raft.State() == raft.Leader {
		_ = s.raft.LeadershipTransfer().Error() // bounded; alone, there is nobody to hand over to
	}
	s.gates.release()
	err := s.raft.Shutdown().Error()
	if err := errors.Join(err, s.close()); err != nil {
		return fmt.Errorf("stop Raft: %w", err)
	}
	return nil
}

// State returns the state that was applied last on this node, and the index that
// Save wants as its base. Readers share the state: it must not be changed.
func (s *Store) State() (failover.State, uint64) {
	v := s.fsm.current()
	return v.State, v.Index
}

// Changed returns a channel that is closed as soon as a state newer than after,
// an index that State returned, was applied on this node.
func (s *Store) Changed(after uint64) <-chan struct{} { return s.fsm.after(after) }

// Save makes st the state if the current one still has index base, and returns
// its index; it is applied here when Save returns. It fails with
// failover.ErrStale if it has not, with failover.ErrNotLeader on a node that does
// not lead, and with failover.ErrUncertain if leadership or ctx ended first: then
// a later Save with the same base tells.
func (s *Store) Save(ctx context.Context, base uint64, st failover.State) (uint64, error) {
	on := s.fsm.current()
	if on.Index != base {
		return 0, fmt.Errorf("save state: %w", failover.ErrStale)
	}
	entry, err := json.Marshal(newCommand(on, st))
	if err != nil {
		return 0, fmt.Errorf("encode state: %w", err)
	}
	f := s.raft.Apply(entry, enqueueTimeout)
	if err := wait(ctx, f); err != nil {
		return 0, fmt.Errorf("save state: %w", err)
	}
	if err, refused := f.Response().(error); refused {
		return 0, fmt.Errorf("save state: %w", err)
	}
	return f.Index(), nil
}

// Barrier waits until every entry that was committed before is applied on this
// node, and returns the term that it leads in. It fails with
// failover.ErrNotLeader on a node that does not lead.
func (s *Store) Barrier(ctx context.Context) (uint64, error) {
	term := s.raft.CurrentTerm()
	if err := wait(ctx, s.raft.Barrier(enqueueTimeout)); err != nil {
		return 0, fmt.Errorf("raft barrier: %w", err)
	}
	if s.raft.CurrentTerm() != term {
		// Which of the terms the barrier passed in is not known.
		return 0, fmt.Errorf("raft barrier: the term changed: %w", failover.ErrNotLeader)
	}
	s.barrier.Store(term)
	return term, nil
}

// wait returns the result of f in terms of package failover.
func wait(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // ends with f, at the latest when Raft shuts down
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", failover.ErrUncertain, ctx.Err())
	case err := <-done:
		switch {
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return failover.ErrNotLeader
		case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
			return fmt.Errorf("%w: %w", failover.ErrUncertain, err)
		}
		return err
	}
}

// LeaderCh tells when this node becomes leader (true) and stops to be (false).
// Only the latest change waits, so a true may follow a true. It is for one reader.
func (s *Store) LeaderCh() <-chan bool { return s.raft.LeaderCh() }

// Leader returns the leader that this node heard of lately, or "".
func (s *Store) Leader() pgcluster.NodeID {
	_, id := s.raft.LeaderWithID()
	return pgcluster.NodeID(id)
}

// Term returns the Raft term that this node is in, leading or not.
func (s *Store) Term() uint64 { return s.raft.CurrentTerm() }

func raftConfig(node pgcluster.NodeID, logger hclog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(node)
	c.HeartbeatTimeout = heartbeat
	c.ElectionTimeout = heartbeat
	c.LeaderLeaseTimeout = lease
	c.CommitTimeout = commitInterval
	c.SnapshotThreshold = snapshotEvery
	c.SnapshotInterval = snapshotCheck
	c.TrailingLogs = snapshotTrail
	// Who is removed says so and serves nothing; that is decided above Raft.
	c.ShutdownOnRemove = false
	c.Logger = logger
	return c
}
