// Package xpd assembles the daemon: it makes the parts, ties each to what it needs
// and runs them. It holds no logic of its own.
package xpd

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment/httpapi"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/controller"
	clusterapi "github.com/xpd-platform/xpd/failover/httpapi"
	"github.com/xpd-platform/xpd/failover/lease"
	"github.com/xpd-platform/xpd/failover/raftstore"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
	"github.com/xpd-platform/xpd/pgcluster/pool"
	"github.com/xpd-platform/xpd/report"
	reportapi "github.com/xpd-platform/xpd/report/httpapi"
)

// daemon is the parts of one node.
type daemon struct {
	Options
	self   pgcluster.Member
	policy failover.Policy

	agent      nodeAgent
	data       string // PGDATA
	nodes      *client.NodeClient
	raft       *raftstore.Store
	controller *controller.Controller
	lease      *lease.Keeper
	pools      *pool.Pools
	database   database
	store      *pgstore.Store
	reporter   *report.Reporter
	membership membership
	protection
}

// Run serves until ctx ends or a part fails, and returns after every goroutine it
// started has ended.
func Run(ctx context.Context, o Options) error {
	self, err := o.self()
	if err := errors.Join(err, o.checkSize()); err != nil {
		return err
	}
	d := &daemon{Options: o, self: self, policy: failover.DefaultPolicy()}
	if err := d.protect(ctx); err != nil {
		return err
	}
	if err := d.cluster(); err != nil {
		return err
	}
	if err := d.experiments(); err != nil {
		return err
	}
	doors, err := d.listen(ctx)
	if err != nil {
		return err
	}
	d.raft, err = raftstore.Open(raftstore.Options{ //nolint:contextcheck // it binds at once; Raft ends with d.raft.Run
		Node: o.Node, Members: o.Members, Join: o.Join, Dir: filepath.Join(o.Dir, "raft"), ListenAddr: self.RaftAddr(),
		TLS: d.raftTLS(), Logger: o.Logger, Registry: o.Registry,
	})
	if err != nil {
		return errors.Join(err, doors.close())
	}
	known, _ := d.raft.State()
	d.membership.agreed.Store(&known)
	d.control()
	o.Logger.InfoContext(ctx, "started", "http", self.HTTPAddr(), "raft", self.RaftAddr(), "postgres", self.PGAddr(), "health", o.HealthListen)
	return runStages(ctx, slices.Concat(d.followFiles(o), []stage{
		{"fence", d.fence}, // before the agent, so that it outlives what it guards
		{"agent", d.agent.Run},
		{"raft", d.raft.Run},
		{"lease", d.lease.Run},
		{"pools", d.pools.Run},
		{"members", d.follow},
		{"removals", func(ctx context.Context) error { return d.remember(ctx, known.Gone) }},
		{"store", d.runStore},
	}, d.serving(doors), []stage{
		{"controller", d.controller.Run},
	}))
}

// cluster makes what runs and reaches PostgreSQL.
func (d *daemon) cluster() (err error) {
	if err := d.newAgent(); err != nil {
		return err
	}
	d.nodes = client.NewNodeClient(d.Members, d.Secret.Password(pgcluster.PasswordNode), d.trust())
	d.keepLease()
	d.pools, err = pool.New(pool.Options{
		Members: d.Members, Database: agent.Database, User: agent.ServiceRole, Password: d.Secret.Password(pgcluster.PasswordService),
		TLS:     d.trust(),
		Prepare: pgstore.Prepare, MinConns: minConns, MaxConns: maxConns, MaxWaiting: maxWaiting,
		Lease:  d.lease,
		Logger: d.Logger, Registry: d.Registry,
	})
	d.database = database{pools: d.pools, member: d.member, password: d.Secret.Password(pgcluster.PasswordService), tls: d.trust()}
	return err
}

func (d *daemon) newAgent() error {
	if d.self.Witness {
		d.agent = newWitness(d.Node)
		return nil
	}
	a, err := agent.New(agent.Options{
		Node: d.Node, Members: d.Members, Dir: d.Dir, BinDir: d.PGBin, OSUser: d.PGUser,
		Secrets: agent.Secrets{
			Admin: d.Secret.Password(pgcluster.PasswordAdmin), Replication: d.Secret.Password(pgcluster.PasswordReplication), Service: d.Secret.Password(pgcluster.PasswordService),
		},
		Settings: d.PGSettings, DataDir: d.PGData, Adopt: d.Adopt, StopOnExit: d.StopPostgres, TLS: d.certs, Logger: d.Logger, Registry: d.Registry,
	})
	if err != nil {
		return err
	}
	d.agent, d.data = a, a.DataDir()
	return nil
}

// member returns the member called id, as it is agreed on.
func (d *daemon) member(id pgcluster.NodeID) (pgcluster.Member, bool) {
	s, _ := d.raft.State()
	return s.Member(id)
}

// experiments makes what answers for units and what reports on them.
func (d *daemon) experiments() (err error) {
	d.store, err = pgstore.New(pgstore.Options{
		DB: d.database, ListenConn: d.database.connect, Now: time.Now, CacheUnits: d.CacheUnits,
		Logger: d.Logger, Registry: d.Registry,
	})
	if err != nil {
		return err
	}
	d.reporter, err = report.New(report.Options{DB: d.database, Experiments: d.store, Now: time.Now})
	return err
}

// control makes what decides, on top of the Raft store.
func (d *daemon) control() {
	d.controller = controller.New(controller.Options{
		Self: d.Node, Members: d.Members, Policy: d.policy, Log: d.raft, Leadership: d.raft, Group: d.raft,
		Nodes:  controller.ShortCut(d.Node, d.reporting(), d.nodes),
		Logger: d.Logger, Registry: d.Registry,
	})
}

// runStore serves the experiment side from a schema that is up to date.
func (d *daemon) runStore(ctx context.Context) error {
	err := d.database.migrate(ctx, func(err error) {
		d.Logger.WarnContext(ctx, "schema not brought up to date, will retry", "error", err)
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was the end of the daemon that ended it
	}
	if err != nil {
		return err
	}
	return d.store.Run(ctx)
}

// ready says why this node cannot serve requests now, or nil.
func (d *daemon) ready() error {
	if d.membership.removed.Load() {
		return errRemoved
	}
	if !d.pools.Target().Open {
		return errNoPrimary
	}
	if d.lease.Left() <= 0 {
		return errNoLease
	}
	return d.store.Ready()
}

// clusterOptions is what the routes of the cluster are made of.
func (d *daemon) clusterOptions() clusterapi.Options {
	return clusterapi.Options{
		Self: d.Node, Members: d.Members, Policy: d.policy, Agent: d.reporting(), Guard: d.guard,
		Transport: client.NodeTransport(d.trust()), Secure: d.certs != nil,
		Logger: d.Logger, State: d.raft.State, View: d.controller.View, Leader: d.raft.Leader,
		Servers: d.raft.Servers, Change: d.controller.Change, Identify: d.nodes.IdentityAt, Lost: d.pools.Lost, Lease: d.lease, Ready: d.ready,
		RunningSettings: d.agent.RunningSettings,
	}
}

// handler serves every route of the daemon.
func (d *daemon) handler() http.Handler {
	return httpapi.New(httpapi.Options{
		Assigner: d.store, Recorder: d.store, Layers: d.store, Experiments: d.store,
		Guard: d.guard,
		Ready: d.ready, Metrics: d.metrics(),
		Logger: d.Logger, Registry: d.Registry, Timeout: d.Timeout,
		Extra: func(r chi.Router) {
			r.Group(clusterapi.New(d.clusterOptions()))
			r.Group(httpapi.ImportRoutes(d.store, d.guard, time.Now, d.Logger))
			r.Group(reportapi.Routes(d.reporter, d.guard, d.Logger))
		},
		OpenAPI: []json.RawMessage{clusterapi.OpenAPI(), httpapi.ImportOpenAPI(), reportapi.OpenAPI()},
	})
}
