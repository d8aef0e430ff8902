package raftstore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// slowLog stores until it is let go.
type slowLog struct {
	raft.LogStore
	stored chan struct{}
}

func (l slowLog) StoreLogs([]*raft.Log) error {
	<-l.stored
	return nil
}

func TestPatient_fallsSilentWhileItsDiskStalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		log := watched{slowLog{stored: make(chan struct{})}, d}
		// There is no transport below: what is sent panics.
		p := patient{gates: newGates(), disk: d}
		send := func() error {
			return p.AppendEntries("n2", "", &raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{})
		}
		time.Sleep(time.Minute) // an idle disk does not stall
		ended := make(chan error, 1)
		go func() { ended <- log.StoreLogs(nil) }()
		time.Sleep(stallBound - time.Millisecond)
		if d.stalled() {
			t.Error("a busy disk counts as stalled")
		}
		time.Sleep(time.Millisecond)
		if err := send(); !errors.Is(err, errStalled) {
			t.Errorf("AppendEntries() = %v, want %v", err, errStalled)
		}
		log.LogStore.(slowLog).stored <- struct{}{}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if d.stalled() {
			t.Error("a disk that is well again counts as stalled")
		}
	})
}
