package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Lease keeps this node's lease.
type Lease interface {
	// Grant returns what this node may hand out, or failover.ErrNotLeader.
	Grant(ctx context.Context) (pgcluster.Grant, error)
	// Confirm returns nil if this node has pledged to no epoch above epoch, and
	// pgcluster.ErrStaleOrder if it has.
	Confirm(epoch uint64) error
	// Left returns what is left of the lease of the present epoch.
	Left() time.Duration
}

// leaseJSON asks for a lease or, with an epoch, for a confirmation. It names whom it
// asks, so that another node at its address does not answer.
type leaseJSON struct {
	Node  pgcluster.NodeID `json:"node"`
	Epoch uint64           `json:"epoch"`
}

func (s *server) decodeLease(w http.ResponseWriter, r *http.Request) (leaseJSON, error) {
	var in leaseJSON
	if err := problem.Decode(w, r, maxBody, &in); err != nil {
		return in, err
	}
	if in.Node != s.Self {
		return in, invalid("node", fmt.Sprintf("this is %s", s.Self))
	}
	return in, nil
}

func (s *server) lease(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.decodeLease(w, r); err != nil {
		return err
	}
	g, err := s.Lease.Grant(r.Context())
	if err != nil {
		return err
	}
	return problem.WriteJSON(w, http.StatusOK, g)
}

func (s *server) confirm(w http.ResponseWriter, r *http.Request) error {
	in, err := s.decodeLease(w, r)
	if err != nil {
		return err
	}
	if err := s.Lease.Confirm(in.Epoch); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
