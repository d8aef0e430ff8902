package raftstore

// Snapshot makes a snapshot now and drops the entries that it replaces, as Raft
// does by itself after a while.
func (s *Store) Snapshot() error { return s.raft.Snapshot().Error() }
