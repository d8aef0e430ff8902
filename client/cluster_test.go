package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/xpd-platform/xpd/client"
)

// A node that was removed has done nothing: the next one is asked.
func TestClient_changePassesOverANodeThatWasRemoved(t *testing.T) {
	t.Parallel()
	serve := func(status int, kind, body string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	removed := serve(http.StatusServiceUnavailable, "application/problem+json",
		`{"type": "/problems/removed", "title": "The node is no part of the cluster any more", "status": 503}`)
	member := serve(http.StatusAccepted, "application/json", `{"operation": {"id": 7}}`)
	c, err := client.New([]string{removed, member}, nil)
	if err != nil {
		t.Fatal(err)
	}
	op, err := c.Switchover(t.Context(), "n2", "")
	if err != nil || op.ID != 7 {
		t.Errorf("Switchover() = %+v, %v, want operation 7", op, err)
	}
}
