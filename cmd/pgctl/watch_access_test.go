package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whoever is not let in is told so at once, and does not watch a screen that says that
// nobody answers.
func TestWatch_notLetIn(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"type": "/problems/forbidden", "title": "Whoever asks may not do this", "status": 403}`))
	}))
	t.Cleanup(srv.Close)
	got := pgctl(t.Context(), srv.URL, nil, "status", "-w", "--every", "100ms", "--timeout", "20s")
	if got.code != exitUnknown || got.out != "" || !strings.Contains(got.err, "--server by its address") {
		t.Errorf("pgctl status -w = %+v, want exit code %d and which flag helps", got, exitUnknown)
	}
}
