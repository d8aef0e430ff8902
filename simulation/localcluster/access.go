package localcluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Where things are below the folder of a secured cluster.
const (
	tlsDir     = "tls"    // the CA, and the folder of each node
	tokensFile = "tokens" // of the nodes: hashes
	tokenDir   = "token"  // tokens, by their roles
)

const (
	certLife = 365 * 24 * time.Hour
	// ownTokens begins the names of tokens that are made here. People may add others.
	ownTokens = "local-"
	// renewInterval keeps questions with a token that a node does not know yet well
	// below what nodes take for an attack.
	renewInterval = 500 * time.Millisecond
)

// door is what a secured cluster lets callers in by. The nil door is open.
type door struct {
	dir   string // of the cluster
	ca    *certs.CA
	caPEM []byte
	trust *tls.Config

	mu     sync.Mutex
	tokens map[string]string // by their roles
}

// newDoor makes, or finds in a used folder, a CA, and makes a token for every set of
// roles. Tokens of earlier runs go.
func newDoor(dir string) (*door, error) {
	d := &door{dir: dir}
	if err := errors.Join(makePrivate(filepath.Join(dir, tlsDir)), makePrivate(filepath.Join(dir, tokenDir))); err != nil {
		return nil, err
	}
	if err := d.openCA(); err != nil {
		return nil, err
	}
	made, err := d.makeTokens(func(access.Entry) bool { return false })
	if err != nil {
		return nil, err
	}
	return d, d.use(made)
}

func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("secure the cluster: %w", err)
	}
	return nil
}

func (d *door) caFile() string { return filepath.Join(d.dir, tlsDir, certs.CAFile) }

func (d *door) openCA() error {
	key := filepath.Join(d.dir, tlsDir, certs.CAKeyFile)
	keyPEM, err := os.ReadFile(key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.caPEM, keyPEM, err = certs.NewCA("local", certLife)
		if err == nil {
			err = errors.Join(replace(d.caFile(), d.caPEM), replace(key, keyPEM))
		}
	case err == nil:
		d.caPEM, err = os.ReadFile(d.caFile())
	}
	if err != nil {
		return fmt.Errorf("CA of the cluster: %w", err)
	}
	if d.ca, err = certs.ParseCA(d.caPEM, keyPEM); err != nil {
		return fmt.Errorf("CA of the cluster: %w", err)
	}
	d.trust, err = certs.LoadCA(d.caFile())
	return err
}

// certify gives m a certificate.
func (d *door) certify(m pgcluster.Member) error {
	hosts := []string{m.Host}
	if ip := net.ParseIP(m.Host); ip != nil && ip.IsLoopback() {
		hosts = append(hosts, "localhost")
	}
	cert, key, err := d.ca.Issue(certs.Request{Node: m.ID, Hosts: hosts, Life: certLife})
	if err != nil {
		return err
	}
	dir := filepath.Join(d.dir, tlsDir, string(m.ID))
	return errors.Join(makePrivate(dir),
		replace(filepath.Join(dir, certs.CAFile), d.caPEM),
		replace(filepath.Join(dir, certs.CertFile), cert),
		replace(filepath.Join(dir, certs.KeyFile), key))
}

// replace puts text in the place of a file, at once.
func replace(path string, text []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// flags are what a node is started with.
func (d *door) flags(id pgcluster.NodeID) []string {
	return []string{"--tls-dir", filepath.Join(d.dir, tlsDir, string(id)), "--tokens", filepath.Join(d.dir, tokensFile)}
}

// madeTokens are tokens by their roles. Their names end in mark.
type madeTokens struct {
	mark   string
	tokens map[string]string
}

func (m madeTokens) has(e access.Entry) bool { return strings.HasSuffix(e.Name, m.mark) }

// makeTokens makes a token for every set of roles, for the nodes to accept. Of those made
// before, they go on to accept the ones to be kept.
func (d *door) makeTokens(keep func(access.Entry) bool) (madeTokens, error) {
	m := madeTokens{mark: "-" + strings.ToLower(rand.Text()[:8]), tokens: map[string]string{}}
	var entries []access.Entry
	for _, roles := range roleSets() {
		token, hash, err := access.NewToken()
		if err != nil {
			return m, err
		}
		set := nameSet(roles)
		m.tokens[set] = token
		entries = append(entries, access.Entry{Name: ownTokens + set + m.mark, Roles: roles, Hash: hash})
	}
	return m, d.writeTokens(keep, entries...)
}

// use has callers take the tokens of m from now on.
func (d *door) use(m madeTokens) error {
	for set, token := range m.tokens {
		if err := replace(d.tokenFile(set), []byte(token+"\n")); err != nil {
			return fmt.Errorf("token file: %w", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tokens = m.tokens
	return nil
}

// writeTokens adds entries to the nodes' token file, and leaves those out that were
// made here and are not to be kept.
func (d *door) writeTokens(keep func(access.Entry) bool, entries ...access.Entry) error {
	path := filepath.Join(d.dir, tokensFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tokens of the cluster: %w", err)
	}
	old, err := access.Parse(text)
	if err != nil {
		return fmt.Errorf("tokens of the cluster: %s: %w", path, err)
	}
	var b bytes.Buffer
	for _, e := range old {
		if !strings.HasPrefix(e.Name, ownTokens) || keep(e) {
			fmt.Fprintln(&b, e)
		}
	}
	for _, e := range entries {
		fmt.Fprintln(&b, e)
	}
	return replace(path, b.Bytes())
}

// roleSets returns all sets of roles but the empty one.
func roleSets() [][]access.Role {
	all := access.TokenRoles()
	var sets [][]access.Role
	for bits := 1; bits < 1<<len(all); bits++ {
		var set []access.Role
		for i, r := range all {
			if bits>>i&1 == 1 {
				set = append(set, r)
			}
		}
		sets = append(sets, set)
	}
	return sets
}

// nameSet names a set of roles, whatever their order; none are all.
func nameSet(roles []access.Role) string {
	var parts []string
	for _, r := range access.TokenRoles() {
		if len(roles) == 0 || slices.Contains(roles, r) {
			parts = append(parts, string(r))
		}
	}
	return strings.Join(parts, ".")
}

func (d *door) tokenFile(set string) string { return filepath.Join(d.dir, tokenDir, set) }

func (d *door) token(roles []access.Role) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tokens[nameSet(roles)]
}

// Token returns a token with exactly these roles, or with all if none are named; "" if
// the cluster is not secured.
func (c *Cluster) Token(roles ...access.Role) string {
	if c.door == nil {
		return ""
	}
	return c.door.token(roles)
}

// Trust returns what to trust of TLS; nil if the cluster is not secured.
func (c *Cluster) Trust() *tls.Config {
	if c.door == nil {
		return nil
	}
	return c.door.trust.Clone()
}

// Client returns a client of all nodes, in the order of Members, that may do what the
// roles may, or everything if none are named.
func (c *Cluster) Client(roles ...access.Role) (*client.Client, error) {
	return client.NewWith(c.URLs(), client.Options{TLS: c.Trust(), Token: c.Token(roles...)})
}

// NodeClient is Client for one node alone.
func (c *Cluster) NodeClient(id pgcluster.NodeID, roles ...access.Role) (*client.Client, error) {
	n, err := c.node(id)
	if err != nil {
		return nil, err
	}
	return client.NewWith([]string{c.url(n.member)}, client.Options{TLS: c.Trust(), Token: c.Token(roles...)})
}

// Env returns what a DBA's shell would have for pgctl, as NAME=VALUE.
func (c *Cluster) Env() []string {
	env := []string{"PGCTL_SERVER=" + strings.Join(c.URLs(), ",")}
	if c.door == nil {
		return env
	}
	return append(env, "PGCTL_CA="+c.door.caFile(), "PGCTL_TOKEN_FILE="+c.TokenFile(access.RoleDBA))
}

// TokenFile returns the file with Token, and CAFile the one with the authority to
// trust; both are "" if the cluster is not secured.
func (c *Cluster) TokenFile(roles ...access.Role) string {
	if c.door == nil {
		return ""
	}
	return c.door.tokenFile(nameSet(roles))
}

// CAFile returns the file with the authority to trust: see TokenFile.
func (c *Cluster) CAFile() string {
	if c.door == nil {
		return ""
	}
	return c.door.caFile()
}

// RenewCertificates gives every node of a secured cluster another certificate, and
// returns once all of them show it.
func (c *Cluster) RenewCertificates(ctx context.Context) error {
	members := c.current()
	before := map[pgcluster.NodeID][]byte{}
	for _, m := range members {
		shown, err := c.certificate(ctx, m)
		if err != nil {
			return err
		}
		before[m.ID] = shown
	}
	for _, m := range members {
		if err := c.door.certify(m); err != nil {
			return err
		}
	}
	for _, m := range members {
		err := poll(ctx, pollInterval, func() error {
			shown, err := c.certificate(ctx, m)
			if err == nil && bytes.Equal(shown, before[m.ID]) {
				err = fmt.Errorf("%s shows its old certificate", m.ID)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("renew certificates: %w", err)
		}
	}
	return nil
}

// certificate returns what m shows to callers.
func (c *Cluster) certificate(ctx context.Context, m pgcluster.Member) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c.Trust()}).DialContext(ctx, "tcp", m.HTTPAddr())
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", m.ID, err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw, nil //nolint:forcetypeassert // documented type
}

// RenewTokens makes other tokens, waits until all nodes accept them, and has Token and
// Client give them out from then on. The old ones are accepted until retire is called.
func (c *Cluster) RenewTokens(ctx context.Context) (retire func() error, err error) {
	made, err := c.door.makeTokens(func(access.Entry) bool { return true })
	if err != nil {
		return nil, err
	}
	for _, url := range c.URLs() {
		asks, err := client.NewWith([]string{url}, client.Options{TLS: c.Trust(), Token: made.tokens[nameSet(nil)]})
		if err != nil {
			return nil, err
		}
		err = poll(ctx, renewInterval, func() error {
			_, err := asks.Cluster(ctx)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("renew tokens: %w", err)
		}
	}
	return func() error { return c.door.writeTokens(made.has) }, c.door.use(made)
}

// url returns the base URL of m.
func (c *Cluster) url(m pgcluster.Member) string {
	if c.door == nil {
		return "http://" + m.HTTPAddr()
	}
	return "https://" + m.HTTPAddr()
}

// get asks m for a path, as somebody who may ask for everything.
func (c *Cluster) get(ctx context.Context, m pgcluster.Member, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(m)+path, nil)
	if err != nil {
		return nil, err
	}
	if token := c.Token(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return c.http.Do(req)
}
