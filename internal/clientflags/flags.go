// Package clientflags holds the flags by which command-line tools find the nodes of a
// cluster and are let in, and says which of them helps when they are not.
//
// It asks no node anything: that is the client's part.
package clientflags

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Flags are embedded in a command line, with an envprefix such as XPD_ and the variable
// token_env, see Vars.
type Flags struct {
	Server    []string `default:"127.0.0.1:8300" env:"SERVER" help:"Where an xpd is: HOST, HOST:PORT or a URL. More, separated by commas, are tried in turn."`
	CA        string   `name:"ca" env:"CA" placeholder:"FILE" help:"The cluster's ca.crt: speak TLS, and only to nodes whose certificates it has signed."`
	TokenFile string   `env:"TOKEN_FILE" placeholder:"FILE" help:"File with the token that says what you may do; otherwise ${token_env} holds it."`
}

// Vars are what the help of Flags wants to know: tokenEnv is the environment variable
// with the token itself, which is no flag because others can see those.
func Vars(tokenEnv string) map[string]string {
	return map[string]string{"token_env": tokenEnv}
}

// Way is how a tool reaches nodes.
type Way struct {
	Servers []string // base URLs of those that were named

	https    bool // where an address does not say
	ca       string
	trust    *tls.Config
	token    string
	source   string // of the token
	tokenEnv string
}

// Open reads the files that f names. It tells on w what is unwise about them.
func (f Flags) Open(tokenEnv string, w io.Writer) (*Way, error) {
	if f.CA != "" { // not kong's type:"path", to which an empty variable is the working directory
		f.CA = kong.ExpandPath(f.CA)
	}
	if f.TokenFile != "" {
		f.TokenFile = kong.ExpandPath(f.TokenFile)
	}
	way := &Way{https: f.CA != "", ca: f.CA, tokenEnv: tokenEnv}
	if f.CA != "" {
		var err error
		if way.trust, err = certs.LoadCA(f.CA); err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
	}
	if err := way.findToken(f.TokenFile, w); err != nil {
		return nil, err
	}
	for i, s := range f.Server {
		way.Servers = append(way.Servers, way.URL(s))
		if i == 0 { // whoever writes https:// trusts the authorities of this host
			way.https = strings.HasPrefix(way.Servers[0], "https:")
		}
	}
	return way, nil
}

// URL completes what is left out of an address: host, host:port or a URL.
func (w *Way) URL(addr string) string {
	if strings.Contains(addr, "://") {
		return addr
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), strconv.Itoa(pgcluster.DefaultHTTPPort))
	}
	if w.https {
		return "https://" + addr
	}
	return "http://" + addr
}

// Transport returns a new transport that trusts whom w trusts.
func (w *Way) Transport() *http.Transport { return client.NewTransport(w.trust) }

// Client returns a client of the nodes at urls, with a transport of hc that Transport
// has returned; nil: one of its own.
func (w *Way) Client(urls []string, hc *http.Client) (*client.Client, error) {
	o := client.Options{HTTP: hc, Token: w.token}
	if hc == nil {
		o.TLS = w.trust
	}
	return client.NewWith(urls, o)
}

// maxToken bounds a token file: a longer one is something else.
const maxToken = 4096

// findToken takes the token from a file, or from the environment.
func (w *Way) findToken(file string, warnings io.Writer) error {
	if file == "" {
		w.token, w.source = os.Getenv(w.tokenEnv), w.tokenEnv
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	if w.token, err = parseToken(string(text)); err != nil {
		return fmt.Errorf("--token-file %s: %w", file, err)
	}
	w.source = file
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	if others := info.Mode().Perm() & 0o077; info.Mode().IsRegular() && others != 0 {
		fmt.Fprintf(warnings, "warning: others on this host can read the token in %[1]s: chmod 600 %[1]s\n", file)
	}
	return nil
}

// parseToken returns the one word that text is. Errors do not repeat it.
func parseToken(text string) (string, error) {
	words := strings.Fields(text)
	switch {
	case len(text) > maxToken:
		return "", errors.New("too long: want one token, as xpd token new prints it")
	case strings.Contains(text, "sha256:"):
		return "", errors.New("that is the servers' list of tokens (--tokens), which holds hashes only: give the token that xpd token new printed")
	case len(words) != 1:
		return "", fmt.Errorf("%d words: want one token, as xpd token new prints it", len(words))
	}
	return words[0], nil
}
