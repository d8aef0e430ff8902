package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/xpd-platform/xpd/pgcluster"
)

// errNoNode refuses a certificate of the CA that is not a node's.
var errNoNode = errors.New("its certificate is no node's: it names no " + nodeURN + "ID")

// NodeOf returns the node that a verified peer is.
func NodeOf(cs *tls.ConnectionState) (pgcluster.NodeID, bool) {
	if cs == nil || len(cs.VerifiedChains) == 0 || len(cs.VerifiedChains[0]) == 0 {
		return "", false
	}
	return nodeOf(cs.VerifiedChains[0][0])
}

// expected is the key of what Expect notes.
type expected struct{}

// Expect has a connection that is opened for ctx be to node id and no other, before
// anything is said on it: see [CheckExpected].
func Expect(ctx context.Context, id pgcluster.NodeID) context.Context {
	return context.WithValue(ctx, expected{}, id)
}

// CheckExpected returns an error if the verified peer is not the node that ctx expects.
func CheckExpected(ctx context.Context, cs tls.ConnectionState) error {
	want, asked := ctx.Value(expected{}).(pgcluster.NodeID)
	if who, _ := NodeOf(&cs); asked && who != want {
		return fmt.Errorf("at the address of %s somebody shows the certificate of %s", want, who)
	}
	return nil
}

// ServerConfig is for HTTP. It verifies a client's certificate if there is one; who
// needs one asks [NodeOf]. Every handshake sees the current files.
func (s *Store) ServerConfig() *tls.Config {
	return s.server(tls.VerifyClientCertIfGiven, nil)
}

// NodeServerConfig is for what only nodes use: it requires the certificate of a node
// that allowed accepts. Every handshake sees the current files.
func (s *Store) NodeServerConfig(allowed func(pgcluster.NodeID) bool) *tls.Config {
	return s.server(tls.RequireAndVerifyClientCert, func(cs tls.ConnectionState) error {
		id, ok := NodeOf(&cs)
		switch {
		case !ok:
			return errNoNode
		case !allowed(id):
			return fmt.Errorf("node %s is not expected here", id)
		}
		return nil
	})
}

func (s *Store) server(auth tls.ClientAuthType, verify func(tls.ConnectionState) error) *tls.Config {
	current := func(*tls.ClientHelloInfo) (*tls.Config, error) {
		f := s.now.Load()
		return &tls.Config{
			MinVersion:       tls.VersionTLS13,
			Certificates:     []tls.Certificate{f.pair},
			ClientAuth:       auth,
			ClientCAs:        f.roots,
			VerifyConnection: verify,
			NextProtos:       []string{"http/1.1"}, // what is no HTTP asks for none
			// A resumed session would be of the files that it began with.
			SessionTicketsDisabled: true,
		}, nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: current}
}

// NodeClientConfig is for one connection of this node to another: it presents the
// node's certificate and accepts that of a node for the name or address that is
// dialled. It rests on the files of now: crypto/tls tells nobody which address was
// dialled but its own verification, whose CAs are fixed. So make one for each
// connection, or use [Store.DialTLS].
func (s *Store) NodeClientConfig() *tls.Config {
	f := s.now.Load()
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		RootCAs:      f.roots,
		Certificates: []tls.Certificate{f.pair},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if _, ok := NodeOf(&cs); !ok {
				return errNoNode
			}
			return nil
		},
	}
}

// DialTLS connects to another node as NodeClientConfig says, by the current files. It
// is made for [net/http.Transport.DialTLSContext].
func (s *Store) DialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	d := tls.Dialer{Config: s.NodeClientConfig()}
	return d.DialContext(ctx, network, addr)
}

// ClientConfig is for people's programs: it verifies the server, by the files of now,
// and shows no certificate.
func (s *Store) ClientConfig() *tls.Config { return clientConfig(s.now.Load().roots) }

// LoadCA is ClientConfig where there is nothing but a ca.crt.
func LoadCA(file string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	all, err := parseCerts(text)
	if err != nil {
		return nil, fmt.Errorf("CA certificate %s: %w", file, err)
	}
	return clientConfig(pool(all)), nil
}

func clientConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
