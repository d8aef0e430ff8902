package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Options say how a Client reaches the nodes and what lets it in.
type Options struct {
	// HTTP is used as by New. It may not be given together with TLS: its transport has
	// a configuration of its own.
	HTTP *http.Client
	// TLS says whom to trust behind an https URL; nil: those whom this host trusts.
	TLS *tls.Config
	// Token shows what the caller may do. It is sent over https only, or to loopback. No
	// redirect is followed with it: a node makes none, and whoever does must not get it.
	Token string
}

// NewTransport returns the transport of a Client that was not given one, for those
// that have several clients or change it. It keeps many connections open, and takes one
// for each request under way: over a single one a lost packet would delay them all.
func NewTransport(trust *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: time.Second, KeepAlive: 5 * time.Second}).DialContext,
		TLSClientConfig:       trust,
		TLSHandshakeTimeout:   2 * time.Second,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: 15 * time.Second, // the server answers within 10 s; a node that hangs never does
	}
}

// parseURL returns a base URL as requests want it. With a token it must be one that
// nobody on the way can read.
func parseURL(raw string, token bool) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("client: %q is not a URL such as http://127.0.0.1:8300", raw)
	}
	if token && u.Scheme == "http" && !loopback(u.Hostname()) {
		return "", &BarredError{raw, BarReadable, errors.New("a token is not sent there over http, where others could read it on the way")}
	}
	return strings.TrimSuffix(raw, "/"), nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// bearer returns what adds a token to a request. A function, so that printing a Client
// does not show it.
func bearer(token string) (func(http.Header), error) {
	if token == "" {
		return func(http.Header) {}, nil
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return nil, errors.New("client: the token has characters that no token has, such as a blank or a line break")
		}
	}
	return func(h http.Header) { h.Set("Authorization", "Bearer "+token) }, nil
}

// stayHere makes hc answer with a redirect instead of following it.
func stayHere(hc *http.Client) *http.Client {
	stays := *hc
	stays.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &stays
}

// Bar is what keeps a client and a node from talking to each other.
type Bar uint8

// Bars.
const (
	BarAuthority   Bar = iota + 1 // nobody who is trusted has signed the node's certificate
	BarName                       // the certificate is for other addresses
	BarCertificate                // the certificate is not valid, now or at all
	BarWantsTLS                   // http was spoken where https is
	BarNoTLS                      // https was spoken where http is
	BarReadable                   // a token would be sent over http
)

// BarredError says that a node and a client cannot talk as the client is set up. Asking
// again does not help; nothing was done.
type BarredError struct {
	URL string // of the node
	Bar Bar
	Err error
}

func (e *BarredError) Error() string { return e.URL + ": " + e.Err.Error() }

func (e *BarredError) Unwrap() error { return e.Err }

// barred returns err, of a request to base, as a *BarredError if it is one.
func barred(base string, err error) error {
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return &BarredError{base, BarAuthority, e}
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return &BarredError{base, BarName, e}
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &BarredError{base, BarCertificate, e.Err}
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return &BarredError{base, BarNoTLS, errors.New("it does not speak https there, but http")}
	}
	return err
}

// tlsOnly reports whether an answer is that of net/http to whoever speaks http where
// https is spoken.
func tlsOnly(base string, resp *http.Response, answer []byte) bool {
	return resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(base, "http:") &&
		strings.HasPrefix(string(answer), "Client sent an HTTP request to an HTTPS server")
}

// isBarred reports whether it is no use to ask the same node again.
func isBarred(err error) bool {
	_, ok := errors.AsType[*BarredError](err)
	return ok
}
