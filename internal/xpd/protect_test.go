package xpd

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xpd-platform/xpd/internal/certs"
)

func TestReload(t *testing.T) {
	t.Parallel()
	dir := makeCerts(t, "127.0.0.1")
	store, err := certs.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	defer read.Close()
	lines := bufio.NewScanner(read)
	reload := make(chan os.Signal)
	o := Options{TLSDir: dir, Reload: reload, Logger: slog.New(slog.NewTextHandler(write, nil))}
	p := protection{certs: store}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.reload(ctx, o) }()
	ask := func(want string) {
		t.Helper()
		reload <- syscall.SIGHUP
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Errorf("logged %q, want %q", lines.Text(), want)
		}
	}
	ask("asked to read the files again")
	if err := os.WriteFile(filepath.Join(dir, certs.CertFile), []byte("half a"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask("the old ones stay in use")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("reload() = %v", err)
	}
}
