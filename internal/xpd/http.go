package xpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	clusterapi "github.com/xpd-platform/xpd/failover/httpapi"
)

// Bounds of connections. A service keeps up to 256 open to a node (see package client),
// so that there is room for many; each costs some 50 kB with TLS.
const (
	maxClients = 4096
	maxProbes  = 256 // of load balancers and Prometheus
)

// Bounds of what is read from a connection and written to it. No answer takes longer
// to make than a report or an import, 30 s, and all of them are small. Refusals, and what
// everybody may read, are made at once: who does not read them holds nothing for long.
const (
	headerTimeout = 5 * time.Second // also for the handshake
	readTimeout   = 30 * time.Second
	writeTimeout  = 90 * time.Second // once a request was authorised
	openTimeout   = 5 * time.Second  // until then
	idleTimeout   = 2 * time.Minute
	restTimeout   = time.Second // for what is left of a body that no handler wanted
	scrapeTimeout = 30 * time.Second
	maxHeader     = 64 << 10
	maxScrapes    = 8
)

// door is a listener and what is served there.
type door struct {
	name    string
	ln      net.Listener
	tls     *tls.Config // nil: HTTP is spoken in plain
	most    int         // connections
	open    bool        // nobody is asked for a token
	hold    func(conn net.Conn, peer []*x509.Certificate) (release func())
	handler func() http.Handler
}

type doors []door

func (ds doors) close() error {
	var errs []error
	for _, d := range ds {
		errs = append(errs, d.ln.Close())
	}
	return errors.Join(errs...)
}

// listen opens the doors. Nobody is let in before serving.
func (d *daemon) listen(ctx context.Context) (doors, error) {
	wanted := []struct {
		door

		addr string
	}{
		{door{name: "http", tls: d.serverTLS(), hold: d.holdTo(), most: maxClients, handler: func() http.Handler { return d.unlessRemoved(d.handler()) }}, d.self.HTTPAddr()},
		{door{name: "health", most: maxProbes, open: true, handler: d.healthHandler}, d.HealthListen},
	}
	var open doors
	for _, w := range wanted {
		if w.addr == "" {
			continue
		}
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", w.addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for %s: %w", w.name, err), open.close())
		}
		w.ln = ln
		open = append(open, w.door)
	}
	return open, nil
}

// serving returns the stages that let people in.
func (d *daemon) serving(ds doors) []stage {
	var all []stage
	for _, door := range ds {
		all = append(all, stage{door.name, func(ctx context.Context) error { return door.serve(ctx, d.Drain, d.Logger) }})
	}
	return all
}

// healthHandler serves what load balancers and Prometheus ask.
func (d *daemon) healthHandler() http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.GetHead)
	r.Group(clusterapi.Health(d.clusterOptions()))
	r.Method(http.MethodGet, "/metrics", patient(d.metrics()))
	return r
}

// patient gives next more time than openTimeout: a machine that is short of processors,
// of which the figures tell, needs seconds to put them together.
func patient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeTimeout)) // of a connection that is closed, nobody reads
		next.ServeHTTP(w, r)
	})
}

func (d *daemon) metrics() http.Handler {
	return promhttp.HandlerFor(d.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

// serve serves until ctx ends, then lets requests in flight finish for at most drain.
func (d door) serve(ctx context.Context, drain time.Duration, logger *slog.Logger) error {
	// HTTP/2 is off: over one connection a lost packet holds up all requests, and the
	// bounds here are those of HTTP/1.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	crowd := newCrowd(d.most, d.hold)
	crowd.open = d.open
	srv := &http.Server{
		Handler:           hurried(d.handler()),
		Protocols:         &protocols,
		TLSConfig:         d.tls,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      openTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         crowd.changed,
		ConnContext:       crowd.context,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // handshakes of strangers
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		err := srv.Shutdown(drainCtx)
		if err != nil {
			err = errors.Join(err, srv.Close())
		}
		stopped <- err
	})
	serve := srv.Serve
	if d.tls != nil {
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	if err := serve(d.ln); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve HTTP: %w", err)
	}
	if err := <-stopped; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("drain HTTP: %w", err)
	}
	return nil
}

// hurried bounds how long a server waits for the rest of a body that next did not want,
// as of a request that it refused: a stranger must not hold connections with it.
func hurried(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		b := &body{ReadCloser: r.Body}
		r.Body = b
		next.ServeHTTP(w, r)
		// Not where the body has ended: the server reads on by then, to hear of clients that
		// leave, and takes a deadline for one that has left.
		if !b.ended {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(restTimeout)) // the server sets the next one itself
		}
	})
}

// body knows whether it was read to its end.
type body struct {
	io.ReadCloser

	ended bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}
