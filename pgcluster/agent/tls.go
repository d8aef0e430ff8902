package agent

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// PostgreSQL and libpq read copies in conf/, which only PostgreSQL's user enters. The
// certificate and its key are one file, so that a server which starts, or reloads, while
// they are replaced never sees two that do not belong together.
func (p paths) tlsCA() string   { return filepath.Join(p.conf, "ca.crt") }
func (p paths) tlsNode() string { return filepath.Join(p.conf, "node.pem") }

// tlsSettings are the agent's own where it was given certificates.
func tlsSettings(o Options, p paths) map[string]string {
	if o.TLS == nil {
		return nil
	}
	return map[string]string{
		"ssl":                      "on",
		"ssl_ca_file":              p.tlsCA(),
		"ssl_cert_file":            p.tlsNode(),
		"ssl_crl_dir":              "",
		"ssl_crl_file":             "",
		"ssl_key_file":             p.tlsNode(),
		"ssl_max_protocol_version": "",
		"ssl_min_protocol_version": "TLSv1.3",
	}
}

// ownedSettings returns the names of all settings that nobody but the agent changes.
func (a *Agent) ownedSettings() []string {
	return slices.Concat(pgcluster.OwnedSettings(), slices.Sorted(maps.Keys(tlsSettings(a.o, a.p))))
}

// resetTLS takes out of postgresql.auto.conf what would keep a server from starting that
// is about to: a certificate there would meet our key.
func (a *Agent) resetTLS(ctx context.Context) error {
	ours := tlsSettings(a.o, a.p)
	var found []string
	_, after, err := a.autoConfWithout(func(name, value string) bool {
		_, owned := ours[name]
		if owned {
			found = append(found, name+"="+value)
		}
		return owned
	})
	if err != nil || len(found) == 0 {
		return err
	}
	a.log.WarnContext(ctx, "resetting what ALTER SYSTEM made of TLS", "settings", strings.Join(found, ","))
	a.noteOverrides(found...)
	return a.owner.replaceDurably(a.p.autoConf(), []byte(after))
}

// tlsSource is how libpq connects to another member. It shows the node's certificate:
// members ask each other for one.
func tlsSource(o Options, p paths) map[string]string {
	if o.TLS == nil {
		return nil
	}
	return map[string]string{
		"ssl_min_protocol_version": "TLSv1.3",
		"sslcert":                  p.tlsNode(),
		"sslkey":                   p.tlsNode(),
		"sslmode":                  "verify-full",
		"sslrootcert":              p.tlsCA(),
	}
}

// copyCerts brings PostgreSQL's copies up to date.
func (a *Agent) copyCerts() error {
	if a.o.TLS == nil {
		return nil
	}
	ca, node := a.o.TLS.PEM()
	for path, content := range map[string][]byte{a.p.tlsCA(): ca, a.p.tlsNode(): node} {
		if err := a.owner.replace(path, content); err != nil {
			return fmt.Errorf("copy certificates for PostgreSQL: %w", err)
		}
	}
	return nil
}

// keepCerts has the copies written again, and the server reload them, whenever there
// are new certificates, until ctx ends.
func (a *Agent) keepCerts(ctx context.Context) {
	if a.o.TLS == nil {
		return
	}
	for {
		changed := a.o.TLS.Changed() // before the copy, so that none is missed
		a.reconfigure()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
