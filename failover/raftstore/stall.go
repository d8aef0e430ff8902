package raftstore

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// stallBound is how long the disk may take to store entries before a leader falls
// silent. It is well above what a busy disk takes.
const stallBound = 2 * time.Second

var errStalled = errors.New("this node's Raft disk does not answer")

// disk knows since when the log waits for its disk.
type disk struct {
	start time.Time
	since atomic.Int64 // nanoseconds after start, 0 while nothing waits
}

func newDisk() *disk { return &disk{start: time.Now()} }

// stalled reports whether entries have waited for too long. Such a leader decides
// nothing any more, but its heartbeats, which need no disk, would keep the others
// from electing one that can.
func (d *disk) stalled() bool {
	since := d.since.Load()
	return since > 0 && time.Since(d.start)-time.Duration(since) >= stallBound
}

func (d *disk) waits() (done func()) {
	d.since.Store(max(1, int64(time.Since(d.start))))
	return func() { d.since.Store(0) }
}

// watched is a log that tells its disk when it stores. Raft stores from one
// goroutine.
type watched struct {
	raft.LogStore
	disk *disk
}

// StoreLog implements raft.LogStore.
func (w watched) StoreLog(l *raft.Log) error {
	defer w.disk.waits()()
	return w.LogStore.StoreLog(l)
}

// StoreLogs implements raft.LogStore.
func (w watched) StoreLogs(l []*raft.Log) error {
	defer w.disk.waits()()
	return w.LogStore.StoreLogs(l)
}
