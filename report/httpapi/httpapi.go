// Package httpapi serves reports over HTTP. It makes none itself.
package httpapi

import (
	"context"
	_ "embed" // for the fragment of OpenAPI
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/xpd-platform/xpd/experiment/httpapi"
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

// Routes returns the route of reports, for the Extra of experiment/httpapi.Options.
func Routes(reporter Reporter, logger *slog.Logger) func(chi.Router) {
	return func(r chi.Router) {
		r.Get("/v1/experiments/{key}/report", problem.Handle(logger, httpapi.Classify, func(w http.ResponseWriter, req *http.Request) error {
			key, err := httpapi.KeyParam(req)
			if err != nil {
				return err
			}
			found, err := reporter.Report(req.Context(), key)
			if err != nil {
				return err
			}
			return problem.WriteJSON(w, http.StatusOK, found)
		}))
	}
}

// OpenAPI describes the route, for the OpenAPI of experiment/httpapi.Options.
func OpenAPI() json.RawMessage { return openAPI }
