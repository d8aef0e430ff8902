package httpapi_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/experiment/httpapi"
)

// fuzzed returns a function that posts a body, without a network in between, and
// fails the test if the answer is not one that any body may get.
func fuzzed(store *memStore) func(t *testing.T, path, body string) (status int, answer string) {
	h := httpapi.New(httpapi.Options{
		Assigner: store, Recorder: store, Layers: store, Experiments: store,
		Ready: func() error { return nil }, Metrics: http.NotFoundHandler(), Guard: openGuard(),
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Now: clock,
	})
	return func(t *testing.T, path, body string) (int, string) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= http.StatusInternalServerError {
			t.Fatalf("POST %s %q = %d %s", path, body, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("POST %s %q answers no JSON: %s", path, body, w.Body)
		}
		if w.Code >= http.StatusBadRequest && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Fatalf("POST %s %q = %d without a problem", path, body, w.Code)
		}
		return w.Code, w.Body.String()
	}
}

func FuzzTreatments(f *testing.F) {
	f.Add(`{"unit":{"type":"user","id":"u1"}}`)
	f.Add(`{"unit":{"type":"user","id":"\ud83d\ude00"},"experiments":["a","a"]}`)
	f.Add(`{"unit":{"type":"user","id":"\ud800"},"experiments":null}`)
	f.Add(`{"unit":null,"experiments":[null]}`)
	f.Fuzz(func(t *testing.T, body string) {
		store := newMemStore(clock)
		post := fuzzed(store)
		status, answer := post(t, "/v1/treatments", body)
		if status != http.StatusOK {
			return
		}
		// The unit comes back as it was understood; sent again it is the same one.
		var resp struct {
			Unit json.RawMessage `json:"unit"`
		}
		unmarshal(t, answer, &resp)
		if again, text := post(t, "/v1/treatments", `{"unit":`+string(resp.Unit)+`}`); again != http.StatusOK {
			t.Errorf("unit %s was accepted once and then refused: %s", resp.Unit, text)
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add(`{"events":[` + purchase(1, "u1") + `,` + purchase(1, "u1") + `]}`)
	f.Add(`{"events":[{"id":"x"},7,null,{"value":1e400}]}`)
	f.Add(`{"events":[{"occurred_at":"0000-01-01T00:00:00+23:59"}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		store := newMemStore(clock)
		status, answer := fuzzed(store)(t, "/v1/events", body)
		if got := strings.Count(answer, `"result":"accepted"`); status == http.StatusOK && got < len(store.events) ||
			status != http.StatusOK && len(store.events) > 0 {
			t.Errorf("status %d tells of %d events, %d are stored", status, got, len(store.events))
		}
	})
}

func FuzzDefinition(f *testing.F) {
	f.Add(buttonJSON)
	f.Add(cartJSON)
	f.Add(strings.Replace(buttonJSON, `"columns":4`, `"columns":1e5`, 1))
	f.Add(strings.Replace(cartJSON, `"slots"`, `"start":"2026-01-01T00:00:00.123456789+14:00","slots"`, 1))
	f.Fuzz(func(t *testing.T, body string) {
		store := newMemStore(clock)
		post := fuzzed(store)
		post(t, "/v1/layers", `{"key":"checkout","unit_type":"user"}`)
		status, first := post(t, "/v1/experiments", body)
		if (status == http.StatusCreated) != (len(store.experiments) == 1) {
			t.Fatalf("status %d with %d experiments stored", status, len(store.experiments))
		}
		if status != http.StatusCreated {
			return
		}
		if again, second := post(t, "/v1/experiments", body); again != http.StatusOK || first != second {
			t.Errorf("created again: %d %s, want the first answer %s", again, second, first)
		}
	})
}
