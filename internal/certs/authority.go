package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// oldCAKeyFile is where the key of a CA that is being replaced goes.
const oldCAKeyFile = "ca-old.key"

func (o Order) path(name string) string { return filepath.Join(o.Dir, name) }

// authority returns the certificates to trust and the CA, made if there is none. The
// CA is nil if its key is not here: it is not needed to look.
func (o Order) authority(known map[pgcluster.NodeID]*x509.Certificate, r *Result) ([]byte, *CA, error) {
	bundle, certErr := os.ReadFile(o.path(CAFile))
	key, keyErr := os.ReadFile(o.path(CAKeyFile))
	if err := errors.Join(ignoreAbsent(certErr), ignoreAbsent(keyErr)); err != nil {
		return nil, nil, err
	}
	r.CA = DidKeep
	switch {
	case certErr != nil && keyErr != nil:
		if o.RotateCA || o.DropOldCA {
			return nil, nil, fmt.Errorf("%s has no CA to replace: run it without this flag", o.Dir)
		}
		r.CA = DidMake
		return o.firstCA()
	case certErr != nil:
		return nil, nil, fmt.Errorf("%s is there, but %s is missing: bring it back, any node's TLS folder has a copy",
			o.path(CAKeyFile), o.path(CAFile))
	case keyErr != nil:
		if o.RotateCA || o.DropOldCA {
			return nil, nil, fmt.Errorf("%s is not here: bring it back from where it is kept", o.path(CAKeyFile))
		}
		return bundle, nil, nil
	}
	ca, err := ParseCA(bundle, key)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.Dir, err)
	}
	switch {
	case o.RotateCA:
		r.CA = DidRotate
		return o.rotate(bundle, key)
	case o.DropOldCA:
		r.CA = DidDrop
		return o.dropOld(ca, bundle, known)
	}
	return bundle, ca, nil
}

func (o Order) firstCA() ([]byte, *CA, error) {
	if len(o.Nodes) == 0 {
		return nil, nil, errors.New("no certificates are here yet: name the nodes with --cluster")
	}
	cert, key, err := NewCA(o.Cluster, o.CALife)
	if err != nil {
		return nil, nil, err
	}
	// The key first: a certificate without it would be trusted and of no use.
	if err := errors.Join(create(o.path(CAKeyFile), key, 0o600), create(o.path(CAFile), cert, 0o644)); err != nil {
		return nil, nil, err
	}
	ca, err := ParseCA(cert, key)
	return cert, ca, err
}

// rotate makes a second CA, which issues from now on, and trusts both.
func (o Order) rotate(bundle, key []byte) ([]byte, *CA, error) {
	all, err := parseCerts(bundle)
	if err != nil {
		return nil, nil, err
	}
	if len(all) > 1 {
		return nil, nil, fmt.Errorf("%s trusts %d CAs already: end that change with --drop-old-ca first", o.path(CAFile), len(all))
	}
	cert, newKey, err := NewCA(o.Cluster, o.CALife)
	if err != nil {
		return nil, nil, err
	}
	both := slices.Concat(cert, bundle)
	// In this order an interruption leaves a CA that can issue, and can be repeated.
	if err := ignoreAbsent(os.Remove(o.path(oldCAKeyFile))); err != nil {
		return nil, nil, err
	}
	if err := create(o.path(oldCAKeyFile), key, 0o600); err != nil {
		return nil, nil, err
	}
	if _, err := replace(o.path(CAFile), both, 0o644); err != nil {
		return nil, nil, err
	}
	if _, err := replace(o.path(CAKeyFile), newKey, 0o600); err != nil {
		return nil, nil, err
	}
	ca, err := ParseCA(both, newKey)
	return both, ca, err
}

// dropOld ends the trust in all CAs but the one that issues. It refuses while a node
// here has another's certificate: the others would refuse that node.
func (o Order) dropOld(ca *CA, bundle []byte, known map[pgcluster.NodeID]*x509.Certificate) ([]byte, *CA, error) {
	var old []string
	for id, cert := range known {
		if cert == nil || cert.CheckSignatureFrom(ca.cert) != nil {
			old = append(old, string(id))
		}
	}
	if len(old) > 0 {
		slices.Sort(old)
		return nil, nil, fmt.Errorf("%s still have certificates of the old CA: xpd certs --renew first, copy them, and see that every xpd took them",
			strings.Join(old, ", "))
	}
	alone := encode(pemCert, ca.cert.Raw)
	if bytes.Equal(alone, bundle) {
		return nil, nil, fmt.Errorf("%s trusts one CA only: there is none to drop", o.path(CAFile))
	}
	if _, err := replace(o.path(CAFile), alone, 0o644); err != nil {
		return nil, nil, err
	}
	if err := os.Remove(o.path(oldCAKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return alone, ca, nil
}
