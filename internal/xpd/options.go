package xpd

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Options configures one daemon. Settings of PostgreSQL, where its data is, and what is
// false may be left out; Logger and Registry may not, so that several daemons fit in one
// process.
type Options struct {
	Node    pgcluster.NodeID
	Members []pgcluster.Member // of the whole cluster at its first start, sorted by name
	Join    bool               // a cluster that exists: of Members only the node itself counts
	Dir     string
	Secret  pgcluster.Secret // shared by all nodes

	PGBin        string
	PGUser       string // runs PostgreSQL when xpd is root
	PGSettings   map[string]string
	PGData       string // PGDATA, if it is not in Dir
	Adopt        bool   // take PGData over from whoever has set it up
	StopPostgres bool   // on exit; otherwise PostgreSQL runs on, to be adopted

	Fence        FenceMode
	FenceCommand []string // runs "xpd fence"; none: there is no fence

	TLSDir      string // folder of this node's certificate; "": nothing is encrypted
	TokenFile   string // tokens of services and people; "": nobody is asked for one
	Unprotected bool   // allow addresses other than loopback without both
	// HostNames are the cluster's beside those of its members, such as a balancer's: without
	// tokens no other is answered.
	HostNames []string
	// HealthListen is an address for load balancers and Prometheus alone, who are asked
	// for no token; "": there is none.
	HealthListen string
	Reload       <-chan os.Signal // asks to read TLS files again; nil: nobody does

	Drain      time.Duration
	Timeout    time.Duration
	CacheUnits int

	Logger   *slog.Logger
	Registry *prometheus.Registry
}

// Bounds of a cluster. One node with a PostgreSQL has nobody to be durable on.
const (
	minData    = 2
	maxData    = 7
	maxMembers = 9 // each votes in Raft
)

// checkSize refuses clusters that could not keep the promises. Of a cluster that
// exists package failover sees to that.
func (o Options) checkSize() error {
	if o.Join {
		return nil
	}
	data := 0
	for _, m := range o.Members {
		if m.Data() {
			data++
		}
	}
	if data < minData || data > maxData || len(o.Members) > maxMembers {
		return fmt.Errorf("a cluster of %d node(s), %d of them with a PostgreSQL: want %d to %d with one, and at most %d in all",
			len(o.Members), data, minData, maxData, maxMembers)
	}
	return nil
}

// self returns the member that this daemon is.
func (o Options) self() (pgcluster.Member, error) {
	i := slices.IndexFunc(o.Members, func(m pgcluster.Member) bool { return m.ID == o.Node })
	if i < 0 {
		return pgcluster.Member{}, fmt.Errorf("node %s is not in the cluster definition", o.Node)
	}
	return o.Members[i], o.checkExposed(o.Members[i])
}
