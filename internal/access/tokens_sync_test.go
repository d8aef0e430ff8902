package access_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/xpd-platform/xpd/internal/access"
)

// TestRun follows a token file that is changed, broken, and taken away.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "tokens")
		token := newToken(t)
		write(t, path, "shop assign "+token.hash+"\n")
		var log door // for its log alone
		tokens, err := access.Open(path, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		reg := prometheus.NewRegistry()
		h := access.New(access.Options{Tokens: tokens, Logger: slog.New(slog.DiscardHandler), Registry: reg}).Require(access.RoleAssign)(welcome())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tokens.Run(ctx) }()

		valid := "shop assign " + token.hash + "\n"
		for _, step := range []struct {
			name   string
			change func() error
			want   int
			stale  float64
			logged string
		}{
			{"as it was", func() error { return nil }, 200, 0, ""},
			{"revoked", func() error { return os.WriteFile(path, nil, 0o600) }, 401, 0, "read again"},
			{"back", func() error { return os.WriteFile(path, []byte(valid), 0o600) }, 200, 0, "read again"},
			{"broken", func() error { return os.WriteFile(path, []byte("shop"), 0o600) }, 200, 1, "line 1"},
			{"broken as before", func() error { return nil }, 200, 1, ""},
			{"gone", func() error { return os.Remove(path) }, 200, 1, "no such file"},
			{"another file", func() error { return os.WriteFile(path, []byte("eva dba "+hashA), 0o600) }, 401, 0, "read again"},
			{"for everybody to write", func() error { return os.Chmod(path, 0o666) }, 401, 1, "chmod go-w"},
			{"in order as it was", func() error { return os.Chmod(path, 0o644) }, 401, 0, "read again"},
			{"replaced", func() error { return replaceFile(path, valid) }, 200, 0, "read again"},
			{"a named pipe", func() error { return replaceByPipe(path) }, 200, 1, "not a regular file"},
		} {
			before := len(log.logged())
			if err := step.change(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1100 * time.Millisecond) // of the bubble
			synctest.Wait()
			if got := ask(h, "Bearer "+token.text); got.Code != step.want {
				t.Errorf("%s: status %d, want %d", step.name, got.Code, step.want)
			}
			if got := log.logged()[before:]; (step.logged == "") != (got == "") || !strings.Contains(got, step.logged) || strings.Count(got, "\n") > 1 {
				t.Errorf("%s: logged %q, want one line with %q", step.name, got, step.logged)
			}
			want := strings.NewReader("# HELP xpd_access_tokens_stale 1 while the token file cannot be used as it is, and what it was before counts.\n" +
				"# TYPE xpd_access_tokens_stale gauge\nxpd_access_tokens_stale " + map[float64]string{0: "0", 1: "1"}[step.stale] + "\n")
			if err := testutil.GatherAndCompare(reg, want, "xpd_access_tokens_stale"); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
}

func welcome() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
}
