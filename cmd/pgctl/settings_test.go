package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// An xpd that does not say yet what k comes to is asked to lower it only by people.
func TestSettingsSet_olderNode(t *testing.T) {
	t.Parallel()
	changed := false
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		changed = changed || r.Method != http.MethodGet
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"mode": "protect", "k": 2, "postgres": {}, "version": 1}`)
	}))
	got := pgctl(t.Context(), old.URL, strings.NewReader(""), "settings", "set", "--k", "1")
	old.Close() // no handler runs any more
	if got.code != exitFailed || !strings.Contains(got.err, "Go on with k 1?\nAn acknowledged write may then be on fewer nodes.") || changed {
		t.Errorf("exit code %d, changed %v: %s", got.code, changed, got.err)
	}
}
