package certs

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestStore_Run replaces files on disk and lets hours pass.
func TestStore_Run(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca, err := longCA(t)
		if err != nil {
			t.Fatal(err)
		}
		first := ca.until(2 * warnBefore)
		dir := folder(t, ca.pem, first)
		var log bytes.Buffer
		s, err := Open(dir, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		pass := func(d time.Duration) string {
			time.Sleep(d) // the bubble's clock: returns at once
			synctest.Wait()
			text := log.String()
			log.Reset()
			return text
		}

		if got := pass(5 * lookInterval); got != "" {
			t.Errorf("said of files that nobody touched: %s", got)
		}
		second := ca.until(warnBefore + time.Hour)
		write(t, dir, CertFile, second.cert)
		if got := pass(lookInterval); got != "" {
			t.Errorf("said of files that are being copied: %s", got)
		}
		write(t, dir, KeyFile, second.key)
		if got := pass(lookInterval); strings.Count(got, "TLS files replaced") != 1 {
			t.Errorf("said of new files: %s", got)
		}
		write(t, dir, CertFile, []byte("junk"))
		if got := pass(10 * lookInterval); strings.Count(got, "not taken") != 1 {
			t.Errorf("said of bad files: %s", got)
		}
		if left := time.Until(s.NotAfter()); left < warnBefore {
			t.Errorf("%v left after bad files", left)
		}
		if got := pass(2 * time.Hour); strings.Count(got, "ends soon") != 1 {
			t.Errorf("said of the last month: %s", got)
		}
		third := ca.until(10 * time.Minute)
		write(t, dir, CertFile, third.cert)
		write(t, dir, KeyFile, third.key)
		if got := pass(time.Hour); strings.Count(got, "TLS files replaced") != 1 || strings.Count(got, "level=ERROR") != 1 {
			t.Errorf("said of the end: %s", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
}

// TestStore_Run_mended mends what keeps files from being taken, while they stay the same.
func TestStore_Run_mended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca, err := longCA(t)
		if err != nil {
			t.Fatal(err)
		}
		dir := folder(t, ca.pem, ca.until(2*warnBefore))
		var log bytes.Buffer
		s, err := Open(dir, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		var l lookout
		after := func(looks int, what string, warnings, taken int) {
			t.Helper()
			for range looks {
				s.look(t.Context(), &l)
				time.Sleep(lookInterval) // the bubble's clock
			}
			text := log.String()
			log.Reset()
			if w, n := strings.Count(text, "not taken"), strings.Count(text, "TLS files replaced"); w != warnings || n != taken {
				t.Errorf("%s: %d warnings and taken %d times, want %d and %d: %s", what, w, n, warnings, taken, text)
			}
		}
		after(2, "as they were", 0, 0)
		chmod(t, dir, 0o770)
		after(10, "a folder that others write", 1, 0)
		second := ca.until(3 * warnBefore)
		write(t, dir, CertFile, second.cert)
		write(t, dir, KeyFile, second.key)
		after(10, "new files in it", 1, 0)
		chmod(t, dir, 0o700)
		after(2, "a folder that nobody else writes", 0, 1)

		third := ca.odd(notYet)
		write(t, dir, CertFile, third.cert)
		write(t, dir, KeyFile, third.key)
		after(10, "a certificate that is not valid yet", 1, 0)
		time.Sleep(day)
		after(2, "one that has become valid", 0, 1)
	})
}

// longCA is a CA that outlives the certificates of this test.
func longCA(t *testing.T) (authority, error) {
	t.Helper()
	cert, key, err := NewCA("test", 1000*day)
	if err != nil {
		return authority{}, err
	}
	ca, err := ParseCA(cert, key)
	return authority{CA: ca, t: t, pem: cert}, err
}

func (a authority) until(life time.Duration) issued {
	a.t.Helper()
	cert, key, err := a.Issue(Request{Node: "n1", Hosts: []string{"n1.test"}, Life: life})
	if err != nil {
		a.t.Fatal(err)
	}
	return issued{cert, key}
}
