package httpapi

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/xpd-platform/xpd/internal/problem"
)

type statusJSON struct {
	Status string `json:"status"`
}

// healthz says that the process answers, and nothing about its database.
func (s *server) healthz(w http.ResponseWriter, _ *http.Request) error {
	return problem.WriteJSON(w, http.StatusOK, statusJSON{"ok"})
}

// readyz says whether requests should be sent here. That they should not is no
// failure of this request, and is not logged as often as somebody asks.
func (s *server) readyz(w http.ResponseWriter, _ *http.Request) error {
	if err := s.Ready(); err != nil {
		return kindUnavailable.problem(err.Error(), "").Write(w)
	}
	return problem.WriteJSON(w, http.StatusOK, statusJSON{"ready"})
}

func (s *server) openapi(w http.ResponseWriter, _ *http.Request) error {
	return problem.WriteJSON(w, http.StatusOK, s.openAPI)
}

func noRoute(_ http.ResponseWriter, r *http.Request) error {
	return kindNoRoute.problem("nothing is served at "+r.URL.Path, "")
}

// methodNotAllowed names the methods that routes has for the path.
func methodNotAllowed(routes chi.Routes) func(http.ResponseWriter, *http.Request) error {
	methods := []string{
		http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut,
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		path := r.URL.Path
		if r.URL.RawPath != "" { // as chi does
			path = r.URL.RawPath
		}
		var allowed []string
		for _, m := range methods {
			if routes.Match(chi.NewRouteContext(), m, path) {
				allowed = append(allowed, m)
				if m == http.MethodGet {
					allowed = append(allowed, http.MethodHead)
				}
			}
		}
		list := strings.Join(allowed, ", ")
		w.Header().Set("Allow", list)
		return kindMethod.problem(r.Method+" is not served here, but "+list, "")
	}
}
