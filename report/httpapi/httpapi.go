// Package httpapi serves reports over HTTP. It makes none itself.
package httpapi

import (
	"context"
	_ "embed" // for the fragment of OpenAPI
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/xpd-platform/xpd/experiment/httpapi"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/report"
)

//go:embed openapi.json
var openAPI []byte

// Reporter makes a report, within a time of its own. It returns
// experiment.ErrNotFound, or an *experiment.InvalidError for an experiment that
// has not run yet.
type Reporter interface {
	Report(ctx context.Context, experimentKey string) (report.Report, error)
}

// timeout bounds a report with its wait for a primary.
const timeout = report.DefaultTimeout + 10*time.Second

// Routes returns the route of reports, for the Extra of experiment/httpapi.Options.
func Routes(reporter Reporter, guard *access.Guard, logger *slog.Logger) func(chi.Router) {
	return func(r chi.Router) {
		r.With(guard.Require(access.RoleExperimenter)).Get("/v1/experiments/{key}/report", problem.Handle(logger, httpapi.Classify, func(w http.ResponseWriter, req *http.Request) error {
			key, err := httpapi.KeyParam(req)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(req.Context(), timeout)
			defer cancel()
			found, err := reporter.Report(ctx, key)
			if err != nil {
				return err
			}
			return problem.WriteJSON(w, http.StatusOK, found)
		}))
	}
}

// OpenAPI describes the route, for the OpenAPI of experiment/httpapi.Options.
func OpenAPI() json.RawMessage { return openAPI }
