package access_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/xpd-platform/xpd/internal/access"
)

// TestForward sends a request of 192.0.2.1 over n1, which is at 192.0.2.11, to n2.
func TestForward(t *testing.T) {
	t.Parallel()
	n1, n2 := newDoor(t, access.Options{}), newDoor(t, access.Options{})
	auth := "Bearer " + n2.eva.text
	tests := []struct {
		name   string
		forge  http.Header // sent by the client to n1
		change func(*http.Request)
		want   string
	}{
		{name: "passed on", want: "eva [dba] 192.0.2.1 true"},
		{
			name:  "a client that says where it comes from",
			forge: http.Header{"X-Xpd-Forwarded-For": {"198.51.100.1"}, "X-Forwarded-For": {"198.51.100.2"}},
			want:  "eva [dba] 192.0.2.1 true",
		},
		{
			name:  "and that it is a node",
			forge: http.Header{"X-Xpd-Forwarded-For": {"198.51.100.1"}, "X-Xpd-Node-Token": {"guess"}},
			want:  "eva [dba] 192.0.2.1 true",
		},
		{
			name:   "a client that sends that to n2 itself",
			change: func(r *http.Request) { r.Header.Set("X-Xpd-Node-Token", "guess") },
			want:   "eva [dba] 192.0.2.11 true",
		},
		{
			name:   "a node that says nonsense",
			change: func(r *http.Request) { r.Header.Set("X-Xpd-Forwarded-For", "nobody") },
			want:   "eva [dba] 192.0.2.11 true",
		},
		{
			name:   "a network's zone",
			change: func(r *http.Request) { r.Header.Set("X-Xpd-Forwarded-For", "fe80::1%eth0") },
			want:   "eva [dba] fe80::1 true",
		},
	}
	for _, tt := range tests {
		in := httptest.NewRequest(http.MethodPost, "/cluster", nil)
		in.RemoteAddr = "192.0.2.1:1234"
		in.Header = tt.forge.Clone()
		if in.Header == nil {
			in.Header = http.Header{}
		}
		in.Header.Set("Authorization", auth)
		out := httptest.NewRequest(http.MethodPost, "/cluster", nil)
		out.RemoteAddr = "192.0.2.11:80"
		n1.guard.Forward(out, in)
		if tt.change != nil {
			tt.change(out)
		}
		w := httptest.NewRecorder()
		n2.handler.ServeHTTP(w, out)
		if w.Code != http.StatusOK || w.Body.String() != tt.want {
			t.Errorf("%s: status %d %s, want %s", tt.name, w.Code, w.Body, tt.want)
		}
	}
}

// A node that passes on what a stranger sends is not slowed down in the stranger's place.
func TestForward_countsTheClient(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	send := func(client, auth string) int {
		in := httptest.NewRequest(http.MethodPost, "/cluster", nil)
		in.RemoteAddr = client
		in.Header.Set("Authorization", auth)
		out := httptest.NewRequest(http.MethodPost, "/cluster", nil)
		out.RemoteAddr = "192.0.2.11:80"
		d.guard.Forward(out, in)
		if !d.guard.Forwarded(out) || d.guard.Forwarded(in) {
			t.Fatal("Forwarded() does not tell a request from one that is passed on")
		}
		w := httptest.NewRecorder()
		d.handler.ServeHTTP(w, out)
		return w.Code
	}
	last := 0
	for range 11 {
		last = send("192.0.2.1:1234", "Bearer x")
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the 11th guess: status %d, want 429", last)
	}
	if got := send("192.0.2.2:1234", "Bearer "+d.eva.text); got != http.StatusOK {
		t.Errorf("another client of the same node: status %d, want 200", got)
	}
}

// TestForward_fromNowhere copies all headers of a request that has no address and two
// tokens: nothing of it may look as if a node had vouched for it.
func TestForward_fromNowhere(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	in := httptest.NewRequest(http.MethodPost, "/cluster", nil)
	in.RemoteAddr = "@"
	in.Header = http.Header{"Authorization": {"Bearer a", "Bearer b"}, "X-Xpd-Node-Token": {"guess"}, "X-Xpd-Forwarded-For": {"198.51.100.1"}}
	out := httptest.NewRequest(http.MethodPost, "/cluster", nil)
	out.Header = in.Header.Clone()
	d.guard.Forward(out, in)
	if len(out.Header) > 0 {
		t.Errorf("passed on with %v, want nothing of it", out.Header)
	}
}
