package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
)

const token = "xpd_QWxsIHlvdXIgYmFzZSBhcmUgYmVsb25nIHRvIHVzIQ"

// serveTLS returns the URL of a server that speaks TLS, and whom to trust for that.
func serveTLS(t *testing.T, h http.HandlerFunc) (string, *tls.Config) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	return srv.URL, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
}

func TestNewWith_guardsTheToken(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, url, token string
		ok               bool
	}{
		{"https", "https://db1:8300", token, true},
		{"loopback", "http://127.0.0.1:8300", token, true},
		{"another loopback", "http://127.0.9.1:8300", token, true},
		{"loopback of IPv6", "http://[::1]:8300", token, true},
		{"loopback by name", "http://localhost:8300", token, true},
		{"http to a host", "http://db1:8300", token, false},
		{"http to an address", "http://10.0.0.1:8300", token, false},
		{"a name that begins well", "http://localhost.example:8300", token, false},
		{"an address that begins well", "http://127.0.0.1.example:8300", token, false},
		{"two lines", "https://db1", token + "\n" + token, false},
		{"a blank", "https://db1", token + " ", false},
		{"no token goes anywhere", "http://db1:8300", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := client.NewWith([]string{"https://first", tt.url}, client.Options{Token: tt.token})
			if (err == nil) != tt.ok {
				t.Errorf("NewWith(%q) = %v, want ok %v", tt.url, err, tt.ok)
			}
			if err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

func TestNewWith_wantsOneTLSConfiguration(t *testing.T) {
	t.Parallel()
	o := client.Options{HTTP: http.DefaultClient, TLS: &tls.Config{MinVersion: tls.VersionTLS13}}
	if _, err := client.NewWith([]string{"https://db1"}, o); err == nil {
		t.Error("NewWith() = nil, want an error: whom to trust would be ignored")
	}
}

// TestToken_isSent also to whoever serves a change.
func TestToken_isSent(t *testing.T) {
	t.Parallel()
	var got []string
	url, trust := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, `{}`)
	})
	c, err := client.NewWith([]string{url}, client.Options{TLS: trust, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	_, layersErr := c.Layers(t.Context())
	_, changeErr := c.Switchover(t.Context(), "n2", "")
	if err := errors.Join(layersErr, changeErr); err != nil {
		t.Fatal(err)
	}
	want := []string{"GET Bearer " + token, "POST Bearer " + token}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("received %q, want %q", got, want)
	}
}

// TestToken_isNotSentOn: net/http itself would pass it on to another port of the host.
func TestToken_isNotSentOn(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect} {
		var stolen atomic.Int64
		thief := serve(t, func(http.ResponseWriter, *http.Request) { stolen.Add(1) })
		url, trust := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief+r.URL.Path, code)
		})
		c, err := client.NewWith([]string{url}, client.Options{TLS: trust, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.CreateLayer(t.Context(), "a", "user")
		if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != code || !strings.Contains(p.Detail, thief) {
			t.Errorf("%d: error = %v, want a problem that names %s", code, err, thief)
		}
		if stolen.Load() > 0 {
			t.Errorf("%d: the redirect was followed", code)
		}
	}
}

// TestToken_isNotShown looks at everything that a caller may print.
func TestToken_isNotShown(t *testing.T) {
	t.Parallel()
	refusing, trust := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"type":"/problems/unauthorized","title":"No","status":401}`)
	})
	for _, url := range []string{refusing, gone(), "http://localhost:0"} {
		c, err := client.NewWith([]string{url}, client.Options{TLS: trust, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, failed := c.Layers(ctx)
		cancel()
		if failed == nil {
			t.Fatalf("Layers() at %s = nil, want an error", url)
		}
		for _, shown := range []string{failed.Error(), fmt.Sprintf("%#v", failed), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
			if strings.Contains(shown, token) {
				t.Errorf("the token is shown: %s", shown)
			}
		}
	}
}

// TestCall_endsWhereNobodyTalks: what cannot become better is not tried until the
// caller's patience ends, and nobody is left in doubt whether a change was made.
func TestCall_endsWhereNobodyTalks(t *testing.T) {
	t.Parallel()
	url, trust := serveTLS(t, fine)
	later := trust.Clone()
	later.Time = func() time.Time { return time.Now().AddDate(200, 0, 0) }
	foreign := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS13}
	plain := serve(t, fine)
	port := url[strings.LastIndex(url, ":"):]
	tests := []struct {
		name, url string
		trust     *tls.Config
		bar       client.Bar
		says      string
	}{
		{"signed by a stranger", url, foreign, client.BarAuthority, "certificate signed by unknown authority"},
		{"for another address", "https://localhost" + port, trust, client.BarName, "certificate is valid for"},
		{"too old", url, later, client.BarCertificate, "certificate has expired"},
		{"http to an https port", "http" + strings.TrimPrefix(url, "https"), trust, client.BarWantsTLS, "does not speak http there, but https"},
		{"https to an http port", "https" + strings.TrimPrefix(plain, "http"), trust, client.BarNoTLS, "does not speak https there, but http"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := client.NewWith([]string{tt.url, tt.url}, client.Options{TLS: tt.trust})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, asked := c.Layers(ctx)
			_, changed := c.Switchover(ctx, "n2", "")
			for _, err := range []error{asked, changed} {
				b, ok := errors.AsType[*client.BarredError](err)
				if !ok || b.Bar != tt.bar || b.URL != tt.url || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("error = %v, want bar %d of %s that says %q", err, tt.bar, tt.url, tt.says)
				}
			}
			if errors.Is(changed, failover.ErrUncertain) {
				t.Errorf("error = %v, but nothing was done", changed)
			}
			if ctx.Err() != nil {
				t.Error("it was tried until the context ended")
			}
			if got := c.Stats(); got.Failed != 1 || got.Retries != 1 {
				t.Errorf("Stats() = %+v, want one failed call that tried both", got)
			}
		})
	}
}

// TestCall_goesPastANodeThatDoesNotTalk, whose certificate nobody has renewed.
func TestCall_goesPastANodeThatDoesNotTalk(t *testing.T) {
	t.Parallel()
	stranger, _ := serveTLS(t, fine)
	plain := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"layers":[{"key":"a"}],"operation":{"id":7}}`)
	})
	c, err := client.NewWith([]string{stranger, plain}, client.Options{TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS13}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Layers(t.Context()); err != nil {
		t.Errorf("Layers() = %v", err)
	}
	if op, err := c.Switchover(t.Context(), "n2", ""); err != nil || op.ID != 7 {
		t.Errorf("Switchover() = %+v, %v", op, err)
	}
}
