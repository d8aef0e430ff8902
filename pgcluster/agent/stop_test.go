package agent_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// Somebody changes their mind while a primary that is to stop lets transactions end: it
// stays open, so it must take writes again.
func TestAgent_opensAgainAfterAStopThatWasTakenBack(t *testing.T) {
	t.Parallel()
	for range 10 {
		if takeBackAStop(t) {
			return
		}
	}
	t.Error("no stop was seen to let transactions end")
}

// takeBackAStop returns false if the stop was over before the test saw it.
func takeBackAStop(t *testing.T) bool {
	t.Helper()
	n1 := initialized(t, 1, false)[0]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	pid, _ := n1.postmaster()
	slow := n1.service()
	exec(t, slow, "BEGIN")
	exec(t, slow, "INSERT INTO t VALUES (1)") // keeps the stop waiting

	n1.submit(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(1, 20)})
	r := n1.await("drain", func(r pgcluster.Report) bool {
		return r.Order.Step == "letting transactions end" || r.Order.Done && r.Down()
	})
	if r.Down() {
		return false
	}
	lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 21), Barrier: true, Open: true}
	n1.submit(lead)
	stopped := func() bool { now, ok := n1.postmaster(); return !ok || now != pid }
	n1.await("opening", func(r pgcluster.Report) bool { return stopped() || r.Order.Stamp == lead.Stamp && r.Order.Done })
	if stopped() {
		return false
	}
	exec(t, n1.service(), "INSERT INTO t VALUES (2)")
	exec(t, slow, "COMMIT")
	return true
}

// A reader of a logical slot that has not confirmed everything would keep the server from
// its clean end.
func TestAgent_stopsCleanlyUnderALogicalReader(t *testing.T) {
	t.Parallel()
	nodes := newNodesWith(t, 1, func(o *agent.Options) { o.Settings["wal_level"] = "logical" })
	initialize(nodes, false)
	n1 := nodes[0]
	conn := n1.connect(agent.AdminRole, n1.o.Secrets.Admin, agent.Database)
	exec(t, conn, "SELECT pg_create_logical_replication_slot('feed', 'test_decoding')")
	exec(t, n1.service(), "CREATE TABLE t AS SELECT 1 AS v")
	read(t, n1, "feed")

	r := n1.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 20)})
	if r.Process != pgcluster.ProcessStopped || !r.PositionKnown || r.Recruited != 2 {
		t.Errorf("stopped primary reports %+v", r)
	}
}

// read streams from a logical slot and answers that it lives, but never confirms, until
// the server ends it. It returns once something has come.
func read(t *testing.T, n *node, slot string) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), n.dsn(agent.AdminRole, n.o.Secrets.Admin, agent.Database)+" replication=database")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	came, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = conn.Close(context.WithoutCancel(ctx))
	})
	conn.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL 0/0", slot)})
	if err := conn.Frontend().Flush(); err != nil {
		close(ended)
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		const statusUpdate = 1 + 3*8 + 8 + 1 // its positions are 0: nothing is written, flushed or applied
		alive := append([]byte{'r'}, make([]byte, statusUpdate-1)...)
		for first := true; ; {
			m, err := conn.ReceiveMessage(ctx)
			if err != nil {
				return
			}
			data, ok := m.(*pgproto3.CopyData)
			if !ok {
				continue
			}
			if first && data.Data[0] == 'w' {
				first = false
				close(came)
			}
			conn.Frontend().Send(&pgproto3.CopyData{Data: alive})
			if err := conn.Frontend().Flush(); err != nil {
				return
			}
		}
	}()
	select {
	case <-came:
	case <-ended:
		t.Fatal("the server ended the reader")
	}
}
