package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/problem"
)

type layerRequest struct {
	Key      string `json:"key"`
	UnitType string `json:"unit_type"`
}

type layerJSON struct {
	Key       string    `json:"key"`
	UnitType  string    `json:"unit_type"`
	CreatedAt time.Time `json:"created_at"`
}

func newLayerJSON(l experiment.Layer) layerJSON {
	return layerJSON{Key: l.Key, UnitType: l.UnitType, CreatedAt: l.CreatedAt.UTC()}
}

type layersJSON struct {
	Layers []layerJSON `json:"layers"`
}

func (s *server) listLayers(w http.ResponseWriter, r *http.Request) error {
	layers, err := s.Layers.Layers(r.Context())
	if err != nil {
		return err
	}
	resp := layersJSON{Layers: make([]layerJSON, len(layers))}
	for i, l := range layers {
		resp.Layers[i] = newLayerJSON(l)
	}
	return problem.WriteJSON(w, http.StatusOK, resp)
}

func (s *server) getLayer(w http.ResponseWriter, r *http.Request) error {
	key, err := KeyParam(r)
	if err != nil {
		return err
	}
	l, err := s.Layers.Layer(r.Context(), key)
	if err != nil {
		return err
	}
	return problem.WriteJSON(w, http.StatusOK, newLayerJSON(l))
}

// createLayer answers 201, or 200 if the very same layer is there already.
func (s *server) createLayer(w http.ResponseWriter, r *http.Request) error {
	var req layerRequest
	if err := problem.Decode(w, r, maxBody, &req); err != nil {
		return err
	}
	want := experiment.Layer{Key: req.Key, UnitType: req.UnitType}
	if err := want.Validate(); err != nil {
		return err
	}
	status := http.StatusCreated
	got, err := s.Layers.CreateLayer(r.Context(), want)
	if errors.Is(err, experiment.ErrExists) {
		status = http.StatusOK
		if got, err = s.Layers.Layer(r.Context(), want.Key); err == nil && got.UnitType != want.UnitType {
			err = experiment.ErrExists
		}
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/layers/"+url.PathEscape(got.Key))
	return problem.WriteJSON(w, status, newLayerJSON(got))
}
