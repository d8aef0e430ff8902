package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/xpd-platform/xpd/client"
)

// serve returns the URL of a server that runs h for every request.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// gone returns the URL of a server that no longer listens.
func gone() string {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	return srv.URL
}

func newClient(t *testing.T, urls ...string) *client.Client {
	t.Helper()
	c, err := client.New(urls, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func fine(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"layers":[{"key":"a"}]}`)
}

func TestNew_refuses(t *testing.T) {
	t.Parallel()
	for _, urls := range [][]string{nil, {""}, {"127.0.0.1:8300"}, {"http://ok:1", "ftp://x"}, {"http://"}, {"http://a b"}} {
		if _, err := client.New(urls, nil); err == nil {
			t.Errorf("New(%q) = nil, want an error", urls)
		}
	}
}

// TestCall_goesOn breaks the first node in the ways in which nodes break, and
// expects that the caller does not notice.
func TestCall_goesOn(t *testing.T) {
	t.Parallel()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(code)
		}
	}
	tests := map[string]string{
		"it does not listen": gone(),
		"it is overloaded":   serve(t, status(http.StatusServiceUnavailable)),
		"its proxy is alone": serve(t, status(http.StatusBadGateway)),
		"it dies before the answer": serve(t, func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}),
		"it dies in the answer": serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"layers":[`)
			panic(http.ErrAbortHandler)
		}),
	}
	for name, broken := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, broken, serve(t, fine))
			for range 3 {
				layers, err := c.Layers(t.Context())
				if err != nil || len(layers) != 1 || layers[0].Key != "a" {
					t.Fatalf("Layers() = %+v, %v", layers, err)
				}
			}
			// Only the first call met the broken node: the client stays where it was answered.
			if got, want := c.Stats(), (client.Stats{Calls: 3, Retries: 1}); got != want {
				t.Errorf("Stats() = %+v, want %+v", got, want)
			}
		})
	}
}

// TestCall_sendsTheWholeRequestAgain reads half of a body before it breaks.
func TestCall_sendsTheWholeRequestAgain(t *testing.T) {
	t.Parallel()
	var bodies []string
	broken := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 5))
		panic(http.ErrAbortHandler)
	})
	c := newClient(t, broken, serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, r.Header.Get("Content-Type")+" "+string(body))
		_, _ = io.WriteString(w, `{"key":"a","unit_type":"user"}`)
	}))
	if _, err := c.CreateLayer(t.Context(), "a", "user"); err != nil {
		t.Fatal(err)
	}
	if want := `application/json {"key":"a","unit_type":"user"}`; len(bodies) != 1 || bodies[0] != want {
		t.Errorf("received %q, want %q once", bodies, want)
	}
}

// TestCall_doesNotRepeatARefusal checks that a request which cannot be accepted is
// sent once, and that the caller learns why.
func TestCall_doesNotRepeatARefusal(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 404, 409, 412, 413, 422, 428, 500} {
		var served atomic.Int64
		h := func(w http.ResponseWriter, _ *http.Request) {
			served.Add(1)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `{"type":"/problems/x","title":"No","status":1,"detail":"because","field":"unit.id"}`)
		}
		c := newClient(t, serve(t, h), serve(t, h))
		_, err := c.Layers(t.Context())
		p, ok := errors.AsType[*client.Problem](err)
		if !ok || p.Status != code || p.Type != "/problems/x" || p.Field != "unit.id" || p.Detail != "because" {
			t.Errorf("%d: error = %#v, want the problem", code, err)
		}
		if served.Load() != 1 || c.Stats().Retries != 0 {
			t.Errorf("%d: sent %d times, %+v, want once", code, served.Load(), c.Stats())
		}
	}
}

func TestCall_explainsAnswersOfStrangers(t *testing.T) {
	t.Parallel()
	c := newClient(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>no</html>", http.StatusForbidden)
	}))
	_, err := c.Layers(t.Context())
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != 403 || !strings.Contains(err.Error(), "<html>no") {
		t.Errorf("error = %v, want a problem with status 403 and the text", err)
	}
}
