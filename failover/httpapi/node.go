package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// maxWait bounds how long a question for a newer report stays open.
const maxWait = time.Second

func (s *server) report(w http.ResponseWriter, r *http.Request) error {
	after, err := number(r, "after", 1<<63)
	if err != nil {
		return err
	}
	wait, err := number(r, "wait_ms", uint64(maxWait/time.Millisecond))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(wait)*time.Millisecond) //nolint:gosec // at most maxWait
	defer cancel()
	return write(w, http.StatusOK, "application/json", s.Agent.Changed(ctx, after))
}

func (s *server) order(w http.ResponseWriter, r *http.Request) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	var o pgcluster.Order
	// Unknown fields are refused: an order half understood is not carried out.
	if err := decode(raw, &o); err != nil {
		return err
	}
	if o.Node != s.Self {
		return &problem{kindInvalid, fmt.Sprintf("this is %s", s.Self), "node"}
	}
	err = s.Agent.Submit(r.Context(), o)
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
		return nil
	case errors.Is(err, pgcluster.ErrStaleOrder), errors.Is(err, pgcluster.ErrWrongSystem), r.Context().Err() != nil:
		return err
	}
	return &problem{kind: kindOrderFailed, detail: err.Error()} // shown: only nodes get here
}

// number reads a query parameter from 0, which is what a missing one is, to limit.
func number(r *http.Request, name string, limit uint64) (uint64, error) {
	raw := r.URL.Query().Get(name)
	if raw == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(raw, 10, 64)
	if err != nil || n > limit {
		return 0, &problem{kindInvalid, fmt.Sprintf("want a number from 0 to %d", limit), name}
	}
	return n, nil
}
