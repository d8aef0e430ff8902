package csvimport_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/httpapi"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/report"
	reportapi "github.com/xpd-platform/xpd/report/httpapi"
)

// service is xpd's experiment side over HTTP, on a database of its own.
type service struct {
	*client.Client

	store *pgstore.Store
	pool  *pgxpool.Pool
}

func serve(tb testing.TB) service {
	tb.Helper()
	pool := pgtest.New(tb)
	if err := pgstore.Migrate(tb.Context(), pool.Config().ConnConfig); err != nil {
		tb.Fatal(err)
	}
	logger, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	store, err := pgstore.New(pgstore.Options{
		DB: pgtest.DB{Pool: pool}, Now: time.Now, Logger: logger, Registry: registry,
		ListenConn: func(ctx context.Context) (*pgx.Conn, error) {
			return pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	reporter, err := report.New(report.Options{DB: pgtest.DB{Pool: pool}, Experiments: store, Now: time.Now})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Errorf("Run() = %v, want nil", err)
		}
	})
	guard := access.New(access.Options{Logger: logger, Registry: registry}) // asks nobody for a token
	server := httptest.NewServer(httpapi.New(httpapi.Options{
		Assigner: store, Recorder: store, Layers: store, Experiments: store, Guard: guard,
		Ready: store.Ready, Metrics: http.NotFoundHandler(), Logger: logger, Registry: registry,
		Extra: func(r chi.Router) {
			r.Group(httpapi.ImportRoutes(store, guard, time.Now, logger))
			r.Group(reportapi.Routes(reporter, guard, logger))
		},
		OpenAPI: []json.RawMessage{httpapi.ImportOpenAPI(), reportapi.OpenAPI()},
	}))
	tb.Cleanup(server.Close)
	c, err := client.New([]string{server.URL}, server.Client())
	if err != nil {
		tb.Fatal(err)
	}
	return service{c, store, pool}
}

// experiment creates one that only takes imports, and starts it.
func (s service) experiment(tb testing.TB, key string, metrics []experiment.Metric, treatments ...string) {
	tb.Helper()
	if _, err := s.store.CreateLayer(tb.Context(), experiment.Layer{Key: key, UnitType: "user"}); err != nil {
		tb.Fatal(err)
	}
	d := experiment.Definition{Key: key, Layer: key, Metrics: metrics}
	for i, t := range treatments {
		d.Treatments = append(d.Treatments, experiment.Treatment{Key: t, Control: i == 0, Weight: 1})
	}
	if _, err := s.store.CreateExperiment(tb.Context(), d); err != nil {
		tb.Fatal(err)
	}
	if _, err := s.store.MoveExperiment(tb.Context(), key, experiment.StateRunning, 0); err != nil {
		tb.Fatal(err)
	}
}

func (s service) count(tb testing.TB, sql string) int64 {
	tb.Helper()
	var n int64
	if err := s.pool.QueryRow(tb.Context(), sql).Scan(&n); err != nil {
		tb.Fatal(err)
	}
	return n
}
