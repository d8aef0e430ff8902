package xpd

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestOptions_hostNames(t *testing.T) {
	t.Parallel()
	store, err := certs.Open(makeCerts(t, "n1.example"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Members: []pgcluster.Member{{ID: "n1", Host: "db1.example"}}, HostNames: []string{"lb.example", "pool"}}
	d := &daemon{Options: o}
	want := func(when string, names ...string) {
		t.Helper()
		for _, name := range []string{"db1.example", "DB1.example", "lb.example", "pool", "db2.example", "n1.example", "evil.example", ""} {
			if got := d.called(name); got != slices.Contains(names, name) {
				t.Errorf("%s: called(%q) = %v", when, name, got)
			}
		}
	}
	said := []string{"db1.example", "DB1.example", "lb.example", "pool"}
	want("at first", said...)
	d.membership.agreed.Store(&failover.State{Members: []pgcluster.Member{{ID: "n1", Host: "db1.example"}, {ID: "n2", Host: "db2.example"}}})
	want("once they have agreed", append(said, "db2.example")...)
	d.certs = store
	want("with a certificate", append(said, "db2.example", "n1.example")...)
	if err := o.checkHostNames(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "lb.example:8300", "http://lb.example", "lb.example."} {
		o.HostNames = []string{"lb.example", name}
		if err := o.checkHostNames(); err == nil || !strings.Contains(err.Error(), "--host-name") {
			t.Errorf("%q is let pass: %v", name, err)
		}
	}
}

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
