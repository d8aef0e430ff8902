package raftstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Remains is what a node that is not running still knows of its group.
type Remains struct {
	State failover.State // with every entry applied that reached this node, committed or not
	Index uint64         // of the last entry: of several survivors, the highest (Term, Index) knows most
	Term  uint64         // of the last entry
}

// Inspect reads the Raft folder of a node that is not running and changes nothing
// that matters.
func Inspect(dir string, logger *slog.Logger) (Remains, error) {
	var r Remains
	err := withFolder(dir, logger, func(db *raftboltdb.BoltStore, snaps raft.SnapshotStore, _ hclog.Logger) error {
		var err error
		r, err = replay(db, snaps)
		return err
	})
	return r, err
}

// Recover makes voters the whole Raft group of a node that is not running, which
// must be one of them, when the majority of the old group is lost for good. Whatever
// only the lost nodes knew is lost with them: the caller asks people first. Every
// survivor that is to go on is given the same voters before any of them starts.
func Recover(node pgcluster.NodeID, dir string, voters []pgcluster.Member, logger *slog.Logger) error {
	conf, _, err := Options{Node: node, Members: voters}.configuration()
	if err != nil {
		return err
	}
	return withFolder(dir, logger, func(db *raftboltdb.BoltStore, snaps raft.SnapshotStore, hl hclog.Logger) error {
		_, trans := raft.NewInmemTransport("") // encodes addresses; nothing is sent
		if err := raft.RecoverCluster(raftConfig(node, hl), newFSM(), db, db, snaps, trans, conf); err != nil {
			return fmt.Errorf("recover Raft: %w", err)
		}
		return nil
	})
}

// withFolder opens the Raft folder that no other process may have open.
func withFolder(dir string, logger *slog.Logger, do func(*raftboltdb.BoltStore, raft.SnapshotStore, hclog.Logger) error) (err error) {
	hl := raftLogger(logger)
	path := filepath.Join(dir, "raft.db")
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("no Raft log: %w", err)
	}
	db, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{Timeout: fileLockTimeout}})
	if err != nil {
		return fmt.Errorf("open Raft log (does xpd still run on %s?): %w", dir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, hl)
	if err != nil {
		return fmt.Errorf("open Raft snapshots: %w", err)
	}
	return do(db, snaps, hl)
}

// replay returns what the newest snapshot and the log after it come to.
func replay(db *raftboltdb.BoltStore, snaps raft.SnapshotStore) (Remains, error) {
	f := newFSM()
	var r Remains
	list, err := snaps.List() // newest first
	if err != nil {
		return r, fmt.Errorf("list Raft snapshots: %w", err)
	}
	if len(list) > 0 {
		meta, body, err := snaps.Open(list[0].ID)
		if err != nil {
			return r, fmt.Errorf("open Raft snapshot: %w", err)
		}
		if err := f.Restore(body); err != nil {
			return r, err
		}
		r.Index, r.Term = meta.Index, meta.Term
	}
	last, err := db.LastIndex()
	if err != nil {
		return r, fmt.Errorf("read Raft log: %w", err)
	}
	for i := r.Index + 1; i <= last; i++ {
		var entry raft.Log
		if err := db.GetLog(i, &entry); err != nil {
			return r, fmt.Errorf("read Raft log: entry %d: %w", i, err)
		}
		if entry.Type == raft.LogCommand {
			_ = f.Apply(&entry) // one that was decided on a stale state changes nothing
		}
		r.Index, r.Term = entry.Index, entry.Term
	}
	r.State = f.current().State
	return r, nil
}
