package problem_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/internal/problem"
)

var errBusy = errors.New("busy")

func classify(err error) *problem.Problem {
	busy := problem.Kind{Slug: "busy", Title: "Too much to do", Status: http.StatusServiceUnavailable}
	if errors.Is(err, errBusy) || errors.Is(err, context.Canceled) {
		return &problem.Problem{Kind: busy, Detail: "come again"}
	}
	return nil
}

func TestHandle(t *testing.T) {
	t.Parallel()
	gone, leave := context.WithCancel(t.Context())
	leave()
	tests := []struct {
		name   string
		ctx    context.Context //nolint:containedctx // of the request
		err    error
		status int
		body   string // "" means that of busy
		logged string // the level
	}{
		{
			name: "a mistake of the client", err: fmt.Errorf("read: %w", &problem.Problem{Kind: problem.Invalid(), Detail: "must be <b>", Field: "a.b"}),
			status: 422, body: `{"type":"/problems/invalid","title":"A field has a value that cannot be accepted","status":422,` +
				`"detail":"must be \u003cb\u003e","field":"a.b"}`,
		},
		{name: "an error of the table", err: fmt.Errorf("do: %w", errBusy), status: 503, logged: "DEBUG"},
		{name: "an end without the client's doing", err: context.Canceled, status: 503, logged: "DEBUG"},
		{name: "a client that left", ctx: gone, err: context.Canceled, status: 503},
		{
			name: "an error that nobody foresaw", err: errors.New("secret"), status: 500, logged: "ERROR",
			body: `{"type":"/problems/internal","title":"Something broke","status":500}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			if tt.body == "" {
				tt.body = `{"type":"/problems/busy","title":"Too much to do","status":503,"detail":"come again"}`
			}
			var log strings.Builder
			w := httptest.NewRecorder()
			problem.Handle(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), classify, func(http.ResponseWriter, *http.Request) error {
				return tt.err
			})(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/x", nil))
			if diff := cmp.Diff(tt.body+"\n", w.Body.String()); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			want := http.Header{"Content-Type": {"application/problem+json"}, "Content-Length": {fmt.Sprint(len(tt.body) + 1)}}
			if tt.status == http.StatusServiceUnavailable {
				want.Set("Retry-After", "1")
			}
			if diff := cmp.Diff(want, w.Header()); diff != "" || w.Code != tt.status {
				t.Errorf("status %d, want %d; header (-want +got):\n%s", w.Code, tt.status, diff)
			}
			got := log.String()
			if lines := strings.Count(got, "\n"); (tt.logged == "") != (lines == 0) || lines > 1 || !strings.Contains(got, "level="+tt.logged) && tt.logged != "" {
				t.Errorf("logged %q, want one line of level %q", got, tt.logged)
			}
		})
	}
}

func TestHandle_withoutError(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	problem.Handle(slog.New(slog.DiscardHandler), classify, func(w http.ResponseWriter, _ *http.Request) error {
		if err := problem.WriteJSON(w, http.StatusOK, func() {}); err == nil {
			t.Error("WriteJSON() of a function = nil, want an error")
		}
		return problem.WriteJSON(w, http.StatusCreated, []int{1})
	})(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil))
	if got := w.Header().Get("Content-Type"); w.Code != http.StatusCreated || w.Body.String() != "[1]\n" || got != "application/json" {
		t.Errorf("answer = %d %q %q, want 201 with [1] and nothing before", w.Code, got, w.Body)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	const limit = 40
	tests := []struct {
		name, media, body string
		want              problem.Kind // zero: it is decoded
		field             string
	}{
		{name: "fine", media: "application/json", body: `{"unit":{"id":"é"}}`},
		{name: "fine with a parameter, and space around", media: "application/json; charset=utf-8", body: " {\"unit\":{\"id\":\"é\"}}\n"},
		{"no media type", "", `{}`, problem.MediaType(), ""},
		{"another media type", "text/plain", `{}`, problem.MediaType(), ""},
		{"too large", "application/json", `{"unit":{"id":"é"}}` + strings.Repeat(" ", limit), problem.TooLarge(), ""},
		{"nothing", "application/json", ``, problem.BadJSON(), ""},
		{"half of it", "application/json", `{"unit":`, problem.BadJSON(), ""},
		{"no JSON", "application/json", `unit=1`, problem.BadJSON(), ""},
		{"two values", "application/json", `{} {}`, problem.BadJSON(), ""},
		{"not UTF-8", "application/json", "{\"unit\":{\"id\":\"\xff\"}}", problem.BadJSON(), ""},
		{"an unknown field", "application/json", `{"unit":{"\"id":1}}`, problem.UnknownField(), `"id`},
		{"the wrong type", "application/json", `{"unit":{"id":1}}`, problem.Invalid(), "unit.id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/x", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.media)
			var v struct {
				Unit struct {
					ID string `json:"id"`
				} `json:"unit"`
			}
			err := problem.Decode(httptest.NewRecorder(), r, limit, &v)
			if tt.want == (problem.Kind{}) {
				if err != nil || v.Unit.ID != "é" {
					t.Errorf("Decode() = %v with %+v", err, v)
				}
				return
			}
			if p, ok := errors.AsType[*problem.Problem](err); !ok || p.Kind != tt.want || p.Field != tt.field || p.Detail == "" {
				t.Errorf("Decode() = %v, want %s at field %q", err, tt.want.Slug, tt.field)
			}
		})
	}
}
