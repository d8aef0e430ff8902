package pgstore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// While one flush is under way requests gather for the next; one that gave up in
// the meantime is left out, and a store that stops answers whoever is left.
func TestGroup(t *testing.T) {
	t.Parallel()
	s := &Store{now: time.Now}
	s.metrics = newMetrics(s, prometheus.NewRegistry())
	flushes, release := make(chan []int), make(chan struct{})
	g := newGroup(s, groupEvent, 100, func(_ context.Context, qs []int) ([]int, error) {
		flushes <- slices.Clone(qs)
		<-release
		return qs, nil
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.run(ctx) }()
	answers := make(chan int, 10)
	ask := func(n int) {
		if a, err := g.do(t.Context(), n, 1); err == nil {
			answers <- a
		}
	}
	go ask(1)
	if got := <-flushes; !slices.Equal(got, []int{1}) {
		t.Fatalf("first flush = %v, want 1 alone, at once", got)
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.do(impatient, 2, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("do() = %v, want Canceled", err)
	}
	for n := 3; n <= 5; n++ {
		go ask(n)
	}
	for len(g.queue) < 4 { // 2, which gave up, still waits
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("requests do not queue")
		}
	}
	release <- struct{}{}
	second := <-flushes
	slices.Sort(second)
	if !slices.Equal(second, []int{3, 4, 5}) {
		t.Errorf("second flush = %v, want 3, 4 and 5 together", second)
	}
	release <- struct{}{}
	got := []int{<-answers, <-answers, <-answers, <-answers}
	slices.Sort(got)
	if !slices.Equal(got, []int{1, 3, 4, 5}) {
		t.Errorf("answers = %v, want each its own", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("run() = %v, want nil", err)
	}
	if _, err := g.do(t.Context(), 6, 1); !errors.Is(err, errStopped) {
		t.Errorf("do() after run() = %v, want errStopped", err)
	}
}
