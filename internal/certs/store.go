package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	lookInterval = time.Second
	// Warnings begin warnBefore the end and come once in warnInterval.
	warnBefore   = 30 * 24 * time.Hour
	warnInterval = 24 * time.Hour
	maxFile      = 1 << 20
)

// Store is the TLS folder of a node. Its methods may be called from any goroutine.
type Store struct {
	dir    string
	logger *slog.Logger
	now    atomic.Pointer[files]

	mu      sync.Mutex // held while files are read
	changed chan struct{}

	holding sync.Mutex
	held    map[*held]struct{}
}

// content is what the files of a TLS folder say.
type content struct{ ca, cert, key string }

// files is a content that fits together, made use of. It never changes.
type files struct {
	content

	node     pgcluster.NodeID
	pair     tls.Certificate
	roots    *x509.CertPool
	notAfter time.Time
}

// Open reads a TLS folder. It fails unless the key belongs to the certificate, and
// that is a node's, comes from the CA and is good now for both ends of a connection.
func Open(dir string, logger *slog.Logger) (*Store, error) {
	c, err := read(dir)
	if err != nil {
		return nil, fmt.Errorf("TLS folder: %w", err)
	}
	f, err := c.parse(time.Now())
	if err != nil {
		return nil, fmt.Errorf("TLS folder %s: %w", dir, err)
	}
	s := &Store{dir: dir, logger: logger, changed: make(chan struct{}), held: make(map[*held]struct{})}
	s.now.Store(f)
	return s, nil
}

// Node returns the node that the certificate is for.
func (s *Store) Node() pgcluster.NodeID { return s.now.Load().node }

// GoodFor reports whether the certificate is good for host, a name or an address.
func (s *Store) GoodFor(host string) bool {
	return s.now.Load().pair.Leaf.VerifyHostname(host) == nil
}

// NotAfter returns when the certificate, or the CA before it, ends.
func (s *Store) NotAfter() time.Time { return s.now.Load().notAfter }

// PEM returns the current files: the CA's certificates, and the node's certificate
// and key in one, so that nobody reads two that do not belong together.
func (s *Store) PEM() (ca, node []byte) {
	f := s.now.Load()
	return []byte(f.ca), []byte(f.cert + "\n" + f.key)
}

// Changed returns a channel that is closed once there are other files than those of
// the time of the call.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Reload reads the files again. If they do not fit together it returns why, and keeps
// what it has.
func (s *Store) Reload() error {
	c, err := read(s.dir)
	if err != nil {
		return err
	}
	return s.take(c)
}

func (s *Store) take(c content) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.now.Load()
	if c == old.content {
		return nil
	}
	f, err := c.parse(time.Now())
	if err != nil {
		return err
	}
	if f.node != old.node {
		return fmt.Errorf("%s is for node %s, this is %s: copy the folder of %s", CertFile, f.node, old.node, old.node)
	}
	s.now.Store(f)
	close(s.changed)
	s.changed = make(chan struct{})
	s.logger.Info("TLS files replaced", "dir", s.dir, "not_after", f.notAfter)
	return nil
}

// Run reloads the files when they change, closes connections that are held and would not
// be let in any more, and warns when the files' end is near, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	var l lookout
	for {
		s.look(ctx, &l)
		s.judge()
		s.warn(ctx, &l)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// lookout is what Run remembers from one look to the next.
type lookout struct {
	last finding
	told bool // that last is not in use

	warned time.Time // of the end
	ended  bool      // and said that it has come
}

// finding is what a look found, and why it is not in use.
type finding struct {
	content

	why string
}

// look reads all of the files: they are small, and their times and sizes can be the
// same although they have changed. It tries what is not in use at every look, because
// permissions change, and clocks, while the files stay the same.
func (s *Store) look(ctx context.Context, l *lookout) {
	c, err := read(s.dir)
	if err == nil {
		err = s.take(c)
	}
	found := finding{content: c}
	if err != nil {
		found.why = err.Error()
	}
	switch {
	case found != l.last:
		// Told at the next look: whoever copies the files does one after the other.
		l.last, l.told = found, false
	case err != nil && !l.told:
		s.logger.WarnContext(ctx, "TLS files not taken as they are now, those read before stay in use", "dir", s.dir, "error", err)
		l.told = true
	}
}

func (s *Store) warn(ctx context.Context, l *lookout) {
	end := s.NotAfter()
	left := time.Until(end)
	ended := left <= 0
	if left > warnBefore || (time.Since(l.warned) < warnInterval && ended == l.ended) {
		return
	}
	l.warned, l.ended = time.Now(), ended
	if ended {
		s.logger.ErrorContext(ctx, "TLS certificate has ended, nobody accepts it: make another with xpd certs and copy it here", "dir", s.dir, "not_after", end)
		return
	}
	s.logger.WarnContext(ctx, "TLS certificate ends soon: make another with xpd certs and copy it here", "dir", s.dir, "not_after", end)
}

// read returns the files of a folder, and empty strings for those that it cannot read.
func read(dir string) (content, error) {
	var c content
	errs := []error{checkFolder(dir)}
	for _, part := range []struct {
		name string
		to   *string
	}{{CAFile, &c.ca}, {CertFile, &c.cert}, {KeyFile, &c.key}} {
		text, err := readFile(filepath.Join(dir, part.name), part.name == KeyFile)
		*part.to = string(text)
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

func readFile(path string, secret bool) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is missing: xpd certs makes it", path)
	case err != nil:
		return nil, err
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d bytes, at most %d", path, info.Size(), maxFile)
	case secret && info.Mode().Perm()&^0o640 != 0:
		return nil, fmt.Errorf("%s is open to others (%v): chmod 600 it", path, info.Mode().Perm())
	case info.Mode().Perm()&othersWrite != 0:
		return nil, writable(path, info)
	}
	return os.ReadFile(path)
}

// othersWrite is the permissions of others than the owner to write.
const othersWrite = 0o022

// checkFolder refuses a folder in which others could put a CA of their own.
func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return nil //nolint:nilerr // the files tell, which are missing then
	}
	if info.Mode().Perm()&othersWrite != 0 {
		return writable(dir, info)
	}
	return nil
}

func writable(path string, info fs.FileInfo) error {
	return fmt.Errorf("others than its owner can write to %s (%v), and so say whom this node trusts: run chmod go-w %s", path, info.Mode().Perm(), path)
}

// parse checks that the files fit together and that a peer would accept them now.
func (c content) parse(now time.Time) (*files, error) {
	f := &files{content: c}
	cas, err := parseCerts([]byte(c.ca))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CAFile, err)
	}
	if f.pair, err = tls.X509KeyPair([]byte(c.cert), []byte(c.key)); err != nil {
		return nil, fmt.Errorf("%s and %s: %w", CertFile, KeyFile, err)
	}
	f.roots = pool(cas)
	if err := f.verify(now); err != nil {
		return nil, fmt.Errorf("%s: %w", CertFile, err)
	}
	return f, nil
}

// verify checks the certificate as peers do.
func (f *files) verify(now time.Time) error {
	leaf := f.pair.Leaf
	var ok bool
	if f.node, ok = nodeOf(leaf); !ok {
		return errNoNode
	}
	shown := []*x509.Certificate{leaf}
	for _, der := range f.pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
		shown = append(shown, c)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		var err error
		if f.notAfter, err = verify(shown, f.roots, now, usage); err != nil {
			return explain(err, now)
		}
	}
	return nil
}

// explain says what to do about a certificate that does not verify. What it says does not
// change with the time that passes, so that it can be said once.
func explain(err error, now time.Time) error {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch {
		case invalid.Reason == x509.IncompatibleUsage:
			return fmt.Errorf("must be good for both ends of a connection, server and client: %w", err)
		case invalid.Reason == x509.Expired && now.Before(invalid.Cert.NotBefore):
			return fmt.Errorf("it or its CA is not valid before %s: set this host's clock", invalid.Cert.NotBefore.Format(time.RFC3339))
		case invalid.Reason == x509.Expired:
			return fmt.Errorf("it or its CA ended at %s: make another with xpd certs", invalid.Cert.NotAfter.Format(time.RFC3339))
		}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("is not from the CA in %s: copy the files that were made together: %w", CAFile, err)
	}
	return err
}
