package pool

import (
	"context"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/internal/pgtest"
)

// pgx leaves a reader on the socket after a slow write. Whoever asks whether the
// session is alive must not wait for it: on an idle session it never returns.
func TestSession_deadDoesNotWaitForAReader(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	config, err := connConfig(c.Members()[0], Options{Database: "postgres", User: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSession(ctx, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = s.socket.Read(make([]byte, 1024)) // what comes is not the point
	}()
	defer func() {
		s.cutSocket()
		<-read
		s.close()
	}()

	// No event tells when the reader has begun to wait, so ask for some time.
	for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
		answer := make(chan bool, 1)
		go func() { answer <- s.dead() }()
		select {
		case dead := <-answer:
			if dead {
				t.Fatal("an idle session counts as dead")
			}
		case <-ctx.Done():
			t.Fatal("dead() waits for the reader")
		}
	}
	c.Exec(0, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1", s.conn.PgConn().PID())
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !s.dead() {
		select {
		case <-ctx.Done():
			t.Fatal("a terminated session counts as alive")
		case <-tick.C:
		}
	}
}
