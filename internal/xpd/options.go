package xpd

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Options configures one daemon. Every field but PGSettings is required; Logger
// and Registry are, so that several daemons fit in one process.
type Options struct {
	Node    pgcluster.NodeID
	Members []pgcluster.Member // of the whole cluster, sorted by name
	Dir     string
	Secret  pgcluster.Secret // shared by all nodes

	PGBin        string
	PGUser       string // runs PostgreSQL when xpd is root
	PGSettings   map[string]string
	StopPostgres bool // on exit; otherwise PostgreSQL runs on, to be adopted

	Unprotected bool // allow addresses other than loopback
	Drain       time.Duration
	Timeout     time.Duration
	CacheUnits  int

	Logger   *slog.Logger
	Registry *prometheus.Registry
}

// checkSize refuses clusters that could not keep the promises. One node has nobody
// to be durable on. With more than three, a commit waits for two standbys, and
// PostgreSQL counts connections: a standby that reconnects before its old
// connection ends would count twice, until replication uses a slot for each.
func (o Options) checkSize() error {
	if n := len(o.Members); n < 2 || n > 3 {
		return fmt.Errorf("a cluster of %d node(s): want two or three, see docs/testing.md", n)
	}
	return nil
}

// self returns the member that this daemon is.
func (o Options) self() (pgcluster.Member, error) {
	i := slices.IndexFunc(o.Members, func(m pgcluster.Member) bool { return m.ID == o.Node })
	if i < 0 {
		return pgcluster.Member{}, fmt.Errorf("node %s is not in the cluster definition", o.Node)
	}
	m := o.Members[i]
	if o.Unprotected {
		return m, nil
	}
	ip, err := netip.ParseAddr(m.Host)
	if m.Host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return m, fmt.Errorf("%s would serve %s without access control: use a loopback address, or --unprotected on a network that you trust", o.Node, m.Host)
	}
	return m, nil
}
