// Package httpapi serves experiments over HTTP: treatments, exposures and events
// of units, and the layers and experiments that decide about them.
//
// It reads requests strictly, checks that they can be accepted at all, and turns
// errors into application/problem+json through one table. It decides nothing
// about experiments and stores nothing: that is the domain's and the store's. No
// request is acknowledged before the store has returned.
//
// Every request may be sent again. A create or a change that finds itself already
// done succeeds, so that a client which lost an answer gets it at another node.
package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/problem"
)

// Assigner answers which treatments a unit has; an answer is durable when it is
// returned. Without keys it answers for every experiment that is running or
// paused for the unit's type, otherwise for each key once.
type Assigner interface {
	Treatments(ctx context.Context, u experiment.Unit, keys []string) ([]experiment.Decision, error)
}

// Recorder keeps what units saw and did, durable when it returns, with one result
// per request or event and in their order. It may expect valid input.
type Recorder interface {
	Expose(ctx context.Context, u experiment.Unit, reqs []experiment.ExposureRequest) ([]experiment.ExposureResult, error)
	Record(ctx context.Context, events []experiment.Event) ([]experiment.EventResult, error)
	UnitHistory(ctx context.Context, u experiment.Unit) (experiment.History, error)
}

// Layers keeps layers. CreateLayer draws the salt and returns
// experiment.ErrExists if the key is taken, Layer returns experiment.ErrNotFound.
type Layers interface {
	CreateLayer(ctx context.Context, l experiment.Layer) (experiment.Layer, error)
	Layer(ctx context.Context, key string) (experiment.Layer, error)
	Layers(ctx context.Context) ([]experiment.Layer, error)
}

// Experiments keeps experiments. A key that does not exist is an
// experiment.ErrNotFound, one that is taken an ErrExists, a version that is not
// the current one an ErrConflict (0 stands for any); an unknown layer is an
// *InvalidError with field layer. Each change is done wholly or not at all, and
// reads see every change that was answered before, whichever node answered it.
type Experiments interface {
	CreateExperiment(ctx context.Context, d experiment.Definition) (experiment.Experiment, error)
	Experiment(ctx context.Context, key string) (experiment.Experiment, error)
	Experiments(ctx context.Context) ([]experiment.Experiment, error)
	ReviseExperiment(ctx context.Context, d experiment.Definition, version int64) (experiment.Experiment, error)
	MoveExperiment(ctx context.Context, key string, to experiment.State, version int64) (experiment.Experiment, error)
}

// Options is what the API is made of. All fields are required but for Now,
// Timeout, Extra and OpenAPI.
type Options struct {
	Assigner    Assigner
	Recorder    Recorder
	Layers      Layers
	Experiments Experiments
	Guard       *access.Guard

	Ready    func() error // why this node cannot serve requests now, or nil
	Metrics  http.Handler // served at /metrics, to DBAs
	Logger   *slog.Logger
	Registry prometheus.Registerer

	Now     func() time.Time // default time.Now
	Timeout time.Duration    // of one request; default 10 s

	// Extra adds the routes of other packages. They are measured like the rest, and
	// set their own deadlines, read limits and guards.
	Extra func(chi.Router)
	// OpenAPI documents, each with the paths and components of routes in Extra.
	OpenAPI []json.RawMessage
}

// defaultTimeout leaves a request enough time to see a failover through.
const defaultTimeout = 10 * time.Second

// Largest bodies that are read.
const (
	maxBody      = 64 << 10
	maxBatchBody = 1 << 20
)

type server struct {
	Options
	openAPI json.RawMessage
}

// New returns the handler of the API; it is a chi.Routes, too. Like regexp's
// MustCompile it panics on what is wrong in the program itself: an OpenAPI
// fragment that cannot be merged or a route that is no pattern.
func New(o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	doc, err := mergeOpenAPI(o.OpenAPI)
	if err != nil {
		panic(fmt.Sprintf("httpapi: %v", err))
	}
	s := &server{Options: o, openAPI: doc}

	r := chi.NewRouter()
	r.Use(newMetrics(o.Registry).observe, recoverPanics(o.Logger), middleware.GetHead, problem.Limit(maxBatchBody))
	r.NotFound(s.handle(noRoute))
	r.MethodNotAllowed(s.handle(methodNotAllowed(r)))
	r.Group(s.routes)
	if o.Extra != nil {
		r.Group(o.Extra)
	}
	return r
}

// routes lists every route of this package.
func (s *server) routes(r chi.Router) {
	r.Use(deadline(s.Timeout))

	r.Get("/healthz", s.handle(s.healthz))
	r.Get("/readyz", s.handle(s.readyz))
	r.Get("/openapi.json", s.handle(s.openapi))

	assign, ingest := s.Guard.Require(access.RoleAssign), s.Guard.Require(access.RoleIngest)
	r.With(assign).Post("/v1/treatments", s.handle(s.treatments))
	r.With(s.Guard.Require(access.RoleAssign, access.RoleIngest)).Post("/v1/exposures", s.handle(s.expose))
	r.With(ingest).Post("/v1/events", s.handle(s.record))
	r.With(assign).Get("/v1/units/{type}/{id}", s.handle(s.history))

	r.Group(s.definitions)
	r.With(s.Guard.Require(access.RoleDBA)).Method(http.MethodGet, "/metrics", s.Metrics)
}

// definitions are the routes of those who decide what is tried.
func (s *server) definitions(r chi.Router) {
	r.Use(s.Guard.Require(access.RoleExperimenter))

	r.Get("/v1/layers", s.handle(s.listLayers))
	r.Post("/v1/layers", s.handle(s.createLayer))
	r.Get("/v1/layers/{key}", s.handle(s.getLayer))

	r.Get("/v1/experiments", s.handle(s.listExperiments))
	r.Post("/v1/experiments", s.handle(s.createExperiment))
	r.Get("/v1/experiments/{key}", s.handle(s.getExperiment))
	r.Put("/v1/experiments/{key}", s.handle(s.reviseExperiment))
	r.Post("/v1/experiments/{key}/start", s.handle(s.move(start)))
	r.Post("/v1/experiments/{key}/pause", s.handle(s.move(pause)))
	r.Post("/v1/experiments/{key}/resume", s.handle(s.move(resume)))
	r.Post("/v1/experiments/{key}/stop", s.handle(s.move(stop)))
	r.Post("/v1/experiments/{key}/archive", s.handle(s.move(archive)))
}

func (s *server) handle(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return problem.Handle(s.Logger, Classify, h)
}
