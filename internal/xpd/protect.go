package xpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/xpd-platform/xpd/failover/raftstore"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// unprotected returns what keeps strangers out and is not there.
func (o Options) unprotected() []string {
	var missing []string
	if o.TLSDir == "" {
		missing = append(missing, "--tls-dir (xpd certs makes the files)")
	}
	if o.TokenFile == "" {
		missing = append(missing, "--tokens (xpd token new makes the file)")
	}
	return missing
}

// checkExposed refuses to serve others than this host unless strangers are kept out.
func (o Options) checkExposed(self pgcluster.Member) error {
	missing := o.unprotected()
	if o.Unprotected || len(missing) == 0 || loopback(self.Host) {
		return nil
	}
	return fmt.Errorf("%s would serve %s to everybody who reaches it: give it %s, use a loopback address, or --unprotected on a network that you trust",
		o.Node, self.Host, strings.Join(missing, " and "))
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// protection is what keeps strangers out.
type protection struct {
	certs  *certs.Store   // nil: nothing is encrypted
	tokens *access.Tokens // nil: nobody is asked for a token
	guard  *access.Guard
}

// protect reads who this node is and who may come in.
func (d *daemon) protect(ctx context.Context) (err error) {
	if err := d.checkHostNames(); err != nil {
		return err
	}
	if missing := d.unprotected(); len(missing) > 0 && !loopback(d.self.Host) {
		d.Logger.WarnContext(ctx, "this node is unprotected: whoever reaches it can change experiments and the cluster",
			"address", d.self.Host, "missing", strings.Join(missing, ", "))
	}
	if d.TLSDir != "" {
		if d.certs, err = openCerts(d.Options, d.self); err != nil {
			return err
		}
		promauto.With(d.Registry).NewGaugeFunc(prometheus.GaugeOpts{
			Name: "xpd_tls_certificate_expiry_timestamp_seconds",
			Help: "When this node's certificate, or the CA behind it, ends.",
		}, func() float64 { return float64(d.certs.NotAfter().Unix()) })
	}
	if d.TokenFile != "" {
		if d.tokens, err = access.Open(d.TokenFile, d.Logger); err != nil {
			return fmt.Errorf("--tokens: %w", err)
		}
	}
	d.guard = access.New(access.Options{
		Tokens: d.tokens, NodeToken: d.Secret.Password(pgcluster.PasswordNode), RequireNodeCert: d.certs != nil,
		Banned: d.membership.banned, Called: d.called, Admit: admit, Logger: d.Logger, Registry: d.Registry,
	})
	return nil
}

// called reports whether the nodes of the cluster are asked by name: who joins knows the
// others' only since they have agreed, and a certificate may be good for more.
func (d *daemon) called(name string) bool {
	same := func(other string) bool { return strings.EqualFold(name, other) }
	hosts := func(m pgcluster.Member) bool { return same(m.Host) }
	agreed := d.membership.agreed.Load()
	return slices.ContainsFunc(d.HostNames, same) || slices.ContainsFunc(d.Members, hosts) ||
		agreed != nil && slices.ContainsFunc(agreed.Members, hosts) ||
		d.certs != nil && d.certs.GoodFor(name)
}

// checkHostNames refuses names that no request could be found to be for, and none at all,
// which would be any request that leaves it out.
func (o Options) checkHostNames() error {
	for _, name := range o.HostNames {
		if name == "" || strings.ContainsAny(name, ":/ ") || strings.HasSuffix(name, ".") {
			return fmt.Errorf("--host-name %q: want a name alone, such as lb.example, without scheme and port", name)
		}
	}
	return nil
}

// openCerts reads the TLS folder and checks what the other nodes will check.
func openCerts(o Options, self pgcluster.Member) (*certs.Store, error) {
	s, err := certs.Open(o.TLSDir, o.Logger)
	if err != nil {
		return nil, fmt.Errorf("--tls-dir: %w", err)
	}
	if s.Node() != self.ID {
		return nil, fmt.Errorf("--tls-dir: the certificate in %s is for node %s, this is %s: copy the folder that xpd certs made for %s",
			o.TLSDir, s.Node(), self.ID, self.ID)
	}
	_, pem := s.PEM()
	pair, err := tls.X509KeyPair(pem, pem)
	if err == nil {
		err = pair.Leaf.VerifyHostname(self.Host)
	}
	if err != nil {
		return nil, fmt.Errorf("--tls-dir: the others reach this node at %s, and its certificate is not good for that: make another with xpd certs: %w", self.Host, err)
	}
	return s, nil
}

// trust is how this node shows the others who it is; nil: it speaks plain HTTP.
func (p *protection) trust() func() *tls.Config {
	if p.certs == nil {
		return nil
	}
	return p.certs.NodeClientConfig
}

// serverTLS is for those who speak HTTP to this node; nil: in plain.
func (p *protection) serverTLS() *tls.Config {
	if p.certs == nil {
		return nil
	}
	return p.certs.ServerConfig()
}

// raftTLS is for Raft; nil: whoever reaches the port is believed to be a node.
func (d *daemon) raftTLS() *raftstore.TLS {
	if d.certs == nil {
		return nil
	}
	return &raftstore.TLS{Server: d.certs.NodeServerConfig(d.welcome), Client: d.certs.NodeClientConfig, Hold: d.holdTo()}
}

// welcome reports whether the node id may open connections to this one.
func (d *daemon) welcome(id pgcluster.NodeID) bool { return !d.membership.banned(id) }

// holdTo returns what closes connections that would not be let in any more; nil: nothing does.
func (d *daemon) holdTo() func(net.Conn, []*x509.Certificate) func() {
	if d.certs == nil {
		return nil
	}
	return func(conn net.Conn, peer []*x509.Certificate) func() { return d.certs.Hold(conn, peer, d.welcome) }
}

// followFiles returns the stages that follow the files.
func (p *protection) followFiles(o Options) []stage {
	var all []stage
	if p.certs != nil {
		all = append(all, stage{"certificates", p.certs.Run})
	}
	if p.tokens != nil {
		all = append(all, stage{"tokens", p.tokens.Run})
	}
	if o.Reload != nil {
		all = append(all, stage{"reload", func(ctx context.Context) error { return p.reload(ctx, o) }})
	}
	return all
}

// reload reads the TLS files when it is asked for, and says what became of it. Both
// those and the tokens are followed anyway.
func (p *protection) reload(ctx context.Context, o Options) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.Reload:
		}
		var err error
		if p.certs != nil {
			err = p.certs.Reload()
		}
		if err != nil {
			o.Logger.ErrorContext(ctx, "files not read again, the old ones stay in use", "error", err)
			continue
		}
		o.Logger.InfoContext(ctx, "asked to read the files again: TLS files are, tokens will be within a second")
	}
}
