package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xpd-platform/xpd/client"
)

// refusing is a transport whose nodes refuse until a moment.
type refusing struct {
	until      time.Time
	status     int // 0: no connection
	retryAfter string
	sent       []time.Time
}

func (r *refusing) RoundTrip(req *http.Request) (*http.Response, error) {
	r.sent = append(r.sent, time.Now())
	answer := func(status int, body string) *http.Response {
		return &http.Response{
			StatusCode: status, Header: http.Header{"Retry-After": {r.retryAfter}},
			Body: io.NopCloser(strings.NewReader(body)), Request: req,
		}
	}
	switch {
	case !time.Now().Before(r.until):
		return answer(http.StatusOK, `{"layers":[]}`), nil
	case r.status == 0:
		return nil, errors.New("connection refused")
	default:
		return answer(r.status, `{"title":"no"}`), nil
	}
}

// TestCall_waits checks how long the client waits between rounds: as asked, but
// never longer than a second, and longer each time if nobody asked.
func TestCall_waits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name             string
		node             refusing
		refuses          time.Duration
		minTries, maxTry int
		maxLate          time.Duration
	}{
		{"asked for a second", refusing{status: 503, retryAfter: "1"}, 3 * time.Second, 6, 10, 1200 * time.Millisecond},
		{"asked for an hour", refusing{status: 503, retryAfter: "3600"}, 3 * time.Second, 6, 10, 1200 * time.Millisecond},
		{"asked for nothing", refusing{status: 502}, 300 * time.Millisecond, 6, 12, 700 * time.Millisecond},
		{"nobody listens", refusing{}, 30 * time.Second, 60, 90, 1200 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				node, began := tt.node, time.Now()
				node.until = began.Add(tt.refuses)
				c, err := client.New([]string{"http://a", "http://b"}, &http.Client{Transport: &node})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Layers(t.Context()); err != nil {
					t.Fatalf("Layers() = %v", err)
				}
				if late := time.Since(node.until); late > tt.maxLate {
					t.Errorf("answered %s after the nodes were back, want at most %s", late, tt.maxLate)
				}
				if n := len(node.sent); n < tt.minTries || n > tt.maxTry {
					t.Errorf("sent %d times in %s, want %d to %d", n, tt.refuses, tt.minTries, tt.maxTry)
				}
				if !node.sent[1].Equal(node.sent[0]) {
					t.Errorf("the second node was asked %s after the first, want at once", node.sent[1].Sub(node.sent[0]))
				}
			})
		})
	}
}

// Nothing but the context ends the tries, and the error then says both.
func TestCall_stopsWaitingWithItsContext(t *testing.T) {
	t.Parallel()
	for name, node := range map[string]refusing{
		"503 Service Unavailable": {status: 503, retryAfter: "1"},
		"connection refused":      {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				node.until = time.Now().Add(time.Hour)
				c, err := client.New([]string{"http://a", "http://b"}, &http.Client{Transport: &node})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				began := time.Now()
				_, err = c.Layers(ctx)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 300*time.Millisecond {
					t.Errorf("error = %v after %s, want the deadline at 300ms", err, time.Since(began))
				}
				if p, ok := errors.AsType[*client.Problem](err); ok != (node.status != 0) || ok && p.Status != node.status {
					t.Errorf("error = %v, want it to hold the last refusal", err)
				}
				if node.status == 0 && !strings.Contains(err.Error(), name) {
					t.Errorf("error = %v, want it to hold the last failure", err)
				}
				if got := c.Stats(); got.Failed != 1 || got.Retries != uint64(len(node.sent)-1) {
					t.Errorf("Stats() = %+v, want one failed call of %d tries", got, len(node.sent))
				}
			})
		})
	}
}
