package access_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/internal/access"
)

// BenchmarkRequire measures what a guard adds to a request.
func BenchmarkRequire(b *testing.B) {
	for _, n := range []int{10, 100, 1000, access.MaxTokens} {
		b.Run(fmt.Sprintf("%d tokens", n), func(b *testing.B) {
			text, hash, err := access.NewToken()
			if err != nil {
				b.Fatal(err)
			}
			var lines strings.Builder
			for i := range n - 1 {
				fmt.Fprintf(&lines, "t%d assign sha256:%064x\n", i, i)
			}
			path := filepath.Join(b.TempDir(), "tokens")
			if err := replaceFile(path, lines.String()+"shop assign "+hash+"\n"); err != nil {
				b.Fatal(err)
			}
			tokens, err := access.Open(path, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			g := access.New(access.Options{Tokens: tokens, NodeToken: nodeToken, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
			h := g.Require(access.RoleAssign)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			r := httptest.NewRequest(http.MethodPost, "/v1/treatments", nil)
			r.Header.Set("Authorization", "Bearer "+text)
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
			if w.Code != http.StatusOK {
				b.Fatalf("status %d", w.Code)
			}
		})
	}
}
