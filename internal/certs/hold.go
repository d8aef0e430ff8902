package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// held is a connection that lives as long as what let it in.
type held struct {
	conn    net.Conn
	peer    []*x509.Certificate // the leaf first
	allowed func(pgcluster.NodeID) bool

	judged *files    // by which peer was verified last
	until  time.Time // when that ends
}

// Hold has Run close conn, whose peer has shown certificates, once those have ended or are
// not from the CA any more, or they are of a node that allowed does not accept. Whoever
// closes conn calls release.
func (s *Store) Hold(conn net.Conn, peer []*x509.Certificate, allowed func(pgcluster.NodeID) bool) (release func()) {
	h := &held{conn: conn, peer: peer, allowed: allowed}
	s.holding.Lock()
	defer s.holding.Unlock()
	s.held[h] = struct{}{}
	return func() {
		s.holding.Lock()
		defer s.holding.Unlock()
		delete(s.held, h)
	}
}

// judge closes the connections that would not be let in now. The expensive part is done
// once for each set of files.
func (s *Store) judge() {
	f, now := s.now.Load(), time.Now()
	s.holding.Lock()
	defer s.holding.Unlock()
	for h := range s.held {
		if err := h.judge(f, now); err != nil {
			delete(s.held, h)
			_ = h.conn.Close() // whoever serves it learns of it
			s.logger.Info("connection closed: what let it in does not count any more", "from", h.conn.RemoteAddr().String(), "error", err)
		}
	}
}

func (h *held) judge(f *files, now time.Time) error {
	if len(h.peer) == 0 {
		return errors.New("it shows no certificate")
	}
	if h.judged != f || now.After(h.until) {
		until, err := verify(h.peer, f.roots, now, x509.ExtKeyUsageClientAuth)
		if err != nil {
			return err
		}
		h.judged, h.until = f, until
	}
	if id, ok := nodeOf(h.peer[0]); ok && !h.allowed(id) {
		return fmt.Errorf("node %s does not belong to the cluster any more", id)
	}
	return nil
}

// verify checks a certificate, which may be followed by those between it and a root, and
// returns when the first of all these ends.
func verify(shown []*x509.Certificate, roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) (ends time.Time, err error) {
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	chains, err := shown[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return ends, err
	}
	for _, c := range chains[0] {
		if ends.IsZero() || c.NotAfter.Before(ends) {
			ends = c.NotAfter
		}
	}
	return ends, nil
}
