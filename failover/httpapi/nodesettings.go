package httpapi

import (
	"net/http"

	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

// nodeSettingsJSON is what this node's PostgreSQL runs with, and what came of the
// cluster's settings there.
type nodeSettingsJSON struct {
	Node      pgcluster.NodeID           `json:"node"`
	Version   uint64                     `json:"version"`             // of the cluster's settings that the files have
	Refused   []string                   `json:"refused,omitempty"`   // NAME=VALUE: and why PostgreSQL does not take it
	Overrides []string                   `json:"overrides,omitempty"` // ALTER SYSTEM of what is xpd's own, taken back
	Settings  []pgcluster.RunningSetting `json:"settings"`            // that are not the default
}

// nodeSettings asks PostgreSQL itself.
func (s *server) nodeSettings(w http.ResponseWriter, r *http.Request) error {
	report := s.Agent.Changed(r.Context(), 0)
	settings, err := s.RunningSettings(r.Context())
	if err != nil {
		return kindUnavailable.problem("PostgreSQL on " + string(s.Self) + " does not answer: " + err.Error())
	}
	if settings == nil {
		settings = []pgcluster.RunningSetting{}
	}
	return problem.WriteJSON(w, http.StatusOK, nodeSettingsJSON{
		Node: s.Self, Version: report.Config, Refused: report.Refused, Overrides: report.Overrides, Settings: settings,
	})
}
