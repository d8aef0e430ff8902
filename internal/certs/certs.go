// Package certs is the private CA of a cluster, the certificates of its nodes, and
// the TLS configurations that rest on them and follow the files.
//
// A node's TLS folder holds three files: ca.crt, the certificates of the CA, two
// while it is replaced by another; node.crt, the node's own with what lies between
// it and the CA; and node.key. A node's certificate names the node in a URI,
// urn:xpd:node:ID, beside the names and addresses that it is reached by, and is good
// for both ends of a connection. A certificate of the CA without that URI is no
// node's: it is verified, and opens nothing that is for nodes.
//
// There are no revocation lists. Who has lost a node's key replaces the CA; see
// docs/operations.md.
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Files of a TLS folder, and the key of the CA, which belongs into none.
const (
	CAFile    = "ca.crt"
	CertFile  = "node.crt"
	KeyFile   = "node.key"
	CAKeyFile = "ca.key"
)

// nodeURN is what the URI of a node's certificate begins with.
const nodeURN = "urn:xpd:node:"

// backdated is for hosts whose clocks are a little behind that of the CA.
const backdated = 10 * time.Minute

const (
	pemCert = "CERTIFICATE"
	pemKey  = "PRIVATE KEY"
)

// CA issues the certificates of one cluster's nodes.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes a CA of its own key. The cluster's name is for people.
func NewCA(cluster string, life time.Duration) (certPEM, keyPEM []byte, err error) {
	if life <= 0 {
		return nil, nil, fmt.Errorf("make CA: a life of %v is over before it begins", life)
	}
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	// Two CAs of one cluster must differ in name: some verifiers look no further.
	var mark [4]byte
	_, _ = rand.Read(mark[:]) // never fails
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s CA %s", cluster, hex.EncodeToString(mark[:])), Organization: []string{"xpd"}},
		NotBefore:             now.Add(-backdated),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	return encode(pemCert, der), keyPEM, nil
}

// ParseCA reads a CA. Of several certificates it takes the one that the key belongs
// to, and issues with that.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	all, err := parseCerts(certPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CAFile, err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CAKeyFile, err)
	}
	for _, c := range all {
		if sameKey(c.PublicKey, key.Public()) {
			return &CA{cert: c, key: key}, nil
		}
	}
	return nil, fmt.Errorf("%s belongs to no certificate in %s: bring back the two that were made together", CAKeyFile, CAFile)
}

// Request is what a node's certificate is to say.
type Request struct {
	Node  pgcluster.NodeID
	Hosts []string // names and IP addresses that the node is reached by
	Life  time.Duration
}

// Issue makes a key and a certificate for a node. It does not outlive the CA.
func (c *CA) Issue(r Request) (certPEM, keyPEM []byte, err error) {
	if _, err := pgcluster.ParseNodeID(string(r.Node)); err != nil {
		return nil, nil, fmt.Errorf("issue certificate: %w", err)
	}
	if r.Life <= 0 || len(r.Hosts) == 0 {
		return nil, nil, fmt.Errorf("issue certificate of %s: want a life and a host, not %v and %q", r.Node, r.Life, r.Hosts)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: string(r.Node), Organization: []string{"xpd"}},
		NotBefore:             now.Add(-backdated),
		NotAfter:              now.Add(r.Life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{{Scheme: "urn", Opaque: strings.TrimPrefix(nodeURN, "urn:") + string(r.Node)}},
	}
	for _, host := range r.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	certPEM, keyPEM, err = c.sign(template)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate of %s: %w", r.Node, err)
	}
	return certPEM, keyPEM, nil
}

// sign makes a key and a certificate for it. It cuts the life of the certificate at
// the end of the CA's, after which nobody would verify it.
func (c *CA) sign(template *x509.Certificate) (certPEM, keyPEM []byte, err error) {
	if template.NotAfter.After(c.cert.NotAfter) {
		template.NotAfter = c.cert.NotAfter
	}
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	if err != nil {
		return nil, nil, err
	}
	return encode(pemCert, der), keyPEM, nil
}

func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, encode(pemKey, der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// parseCerts reads the certificates of a PEM file, of which there is at least one.
func parseCerts(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCert {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate in it: it must be a PEM file")
	}
	return all, nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemKey {
		return nil, errors.New("no private key in it: it must be a PEM file of PKCS #8, without a password")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T cannot sign", key)
	}
	return signer, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// nodeOf returns the node that a certificate is for, verified or not.
func nodeOf(c *x509.Certificate) (pgcluster.NodeID, bool) {
	var found pgcluster.NodeID
	for _, u := range c.URIs {
		name, ok := strings.CutPrefix(u.String(), nodeURN)
		if !ok {
			continue
		}
		id, err := pgcluster.ParseNodeID(name)
		if err != nil || found != "" { // a certificate of two nodes is none's
			return "", false
		}
		found = id
	}
	return found, found != ""
}
