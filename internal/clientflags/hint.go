package clientflags

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/xpd-platform/xpd/client"
)

// AccessError is an error of a call that was not let in, with what to do about it.
type AccessError struct {
	Err  error
	Hint string
}

func (e *AccessError) Error() string { return e.Err.Error() + "\n" + e.Hint }

func (e *AccessError) Unwrap() error { return e.Err }

// Explain returns err as an *AccessError if access is what is missing, and as it is if
// not.
func (w *Way) Explain(err error) error {
	if _, done := errors.AsType[*AccessError](err); done || err == nil {
		return err
	}
	hint := ""
	if b, ok := errors.AsType[*client.BarredError](err); ok {
		hint = w.mendTLS(b)
	} else if p, ok := errors.AsType[*client.Problem](err); ok {
		hint = w.mendToken(p.Status)
	}
	if hint == "" {
		return err
	}
	return &AccessError{Err: err, Hint: hint}
}

// mendTLS says how a node that speaks otherwise is reached.
func (w *Way) mendTLS(e *client.BarredError) string {
	env := strings.TrimSuffix(w.tokenEnv, "TOKEN") + "CA"
	_, host, _ := strings.Cut(e.URL, "://")
	switch e.Bar {
	case client.BarAuthority:
		if w.ca == "" {
			return fmt.Sprintf("Give the cluster's ca.crt with --ca or %s", env)
		}
		return fmt.Sprintf("%s is not of the authority that has signed its certificate: give the ca.crt of that cluster with --ca", w.ca)
	case client.BarName:
		return "Name the node with --server as its certificate does, or make it another one: xpd certs --san"
	case client.BarCertificate:
		return "See that the clock here is right, and renew the node's certificate: xpd certs"
	case client.BarWantsTLS, client.BarReadable:
		return fmt.Sprintf("Give the cluster's ca.crt with --ca or %s, and name the node without a scheme or as https://%s", env, host)
	case client.BarNoTLS:
		return fmt.Sprintf("If its xpd shall run without --tls-dir, leave --ca and %s out and name it as http://%s", env, host)
	}
	return ""
}

// mendToken says what to do about a refusal.
func (w *Way) mendToken(status int) string {
	switch {
	case status == http.StatusUnauthorized && w.token == "":
		return fmt.Sprintf("Give your token with --token-file or %s; xpd token new makes one, where the nodes' token file is", w.tokenEnv)
	case status == http.StatusUnauthorized:
		return fmt.Sprintf("The token of %s is unknown there, was revoked or has expired: give another with --token-file or %s", w.source, w.tokenEnv)
	case status == http.StatusForbidden && w.token == "": // by a node that asks for none
		return "Name the node with --server by its address, or as its xpd says"
	case status == http.StatusForbidden:
		return fmt.Sprintf("Give a token of such a role with --token-file or %s; that of %s has others", w.tokenEnv, w.source)
	case status == http.StatusTooManyRequests:
		return "Too many tries from this host were refused: wait some seconds, and see that nobody goes on with a wrong token"
	}
	return ""
}
