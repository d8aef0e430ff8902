// Package xpd assembles the daemon: it makes the parts, ties each to what it needs
// and runs them. It holds no logic of its own.
package xpd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment/httpapi"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/controller"
	clusterapi "github.com/xpd-platform/xpd/failover/httpapi"
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

	agent      *agent.Agent
	raft       *raftstore.Store
	controller *controller.Controller
	pools      *pool.Pools
	database   database
	store      *pgstore.Store
	reporter   *report.Reporter
}

// Run serves until ctx ends or a part fails, and returns after every goroutine it
// started has ended.
func Run(ctx context.Context, o Options) error {
	self, err := o.self()
	if err := errors.Join(err, o.checkSize()); err != nil {
		return err
	}
	d := &daemon{Options: o, self: self, policy: failover.DefaultPolicy()}
	if err := d.cluster(); err != nil {
		return err
	}
	if err := d.experiments(); err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", self.HTTPAddr())
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	d.raft, err = raftstore.Open(raftstore.Options{ //nolint:contextcheck // it binds at once; Raft ends with d.raft.Run
		Node: o.Node, Members: o.Members, Dir: filepath.Join(o.Dir, "raft"), ListenAddr: self.RaftAddr(),
		Logger: o.Logger, Registry: o.Registry,
	})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	d.control()
	o.Logger.InfoContext(ctx, "started", "http", self.HTTPAddr(), "raft", self.RaftAddr(), "postgres", self.PGAddr())
	return runStages(ctx, []stage{
		{"agent", d.agent.Run},
		{"raft", d.raft.Run},
		{"pools", d.pools.Run},
		{"re-pointing", d.repoint},
		{"store", d.runStore},
		{"http", func(ctx context.Context) error { return serveHTTP(ctx, ln, d.handler(), o.Drain) }},
		{"controller", d.controller.Run},
	})
}

// cluster makes what runs and reaches PostgreSQL.
func (d *daemon) cluster() (err error) {
	d.agent, err = agent.New(agent.Options{
		Node: d.Node, Members: d.Members, Dir: d.Dir, BinDir: d.PGBin, OSUser: d.PGUser,
		Secrets: agent.Secrets{
			Admin: d.Secret.Password(pgcluster.PasswordAdmin), Replication: d.Secret.Password(pgcluster.PasswordReplication), Service: d.Secret.Password(pgcluster.PasswordService),
		},
		Settings: d.PGSettings, StopOnExit: d.StopPostgres, Logger: d.Logger, Registry: d.Registry,
	})
	if err != nil {
		return err
	}
	d.pools, err = pool.New(pool.Options{
		Members: d.Members, Database: agent.Database, User: agent.ServiceRole, Password: d.Secret.Password(pgcluster.PasswordService),
		Prepare: pgstore.Prepare, MinConns: minConns, MaxConns: maxConns, MaxWaiting: maxWaiting,
		Logger: d.Logger, Registry: d.Registry,
	})
	d.database = database{pools: d.pools, members: d.Members, password: d.Secret.Password(pgcluster.PasswordService)}
	return err
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
		Self: d.Node, Members: d.Members, Policy: d.policy, Log: d.raft, Leadership: d.raft,
		Nodes:  controller.ShortCut(d.Node, d.agent, client.NewNodeClient(d.Members, d.Secret.Password(pgcluster.PasswordNode))),
		Logger: d.Logger, Registry: d.Registry,
	})
}

// repoint points the pools to the primary of each agreed state as soon as it is
// applied on this node.
func (d *daemon) repoint(ctx context.Context) error {
	for {
		state, index := d.raft.State()
		changed := d.raft.Changed(index)
		d.pools.Retarget(pool.Target{
			Node: state.Primary.Node, Epoch: state.Primary.Epoch, Open: state.Primary.Access == failover.AccessOpen,
			Timeline: state.Lineage.Current(),
		})
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
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
	if !d.pools.Target().Open {
		return errNoPrimary
	}
	return d.store.Ready()
}

// handler serves every route of the daemon.
func (d *daemon) handler() http.Handler {
	cluster := clusterapi.New(clusterapi.Options{
		Self: d.Node, Members: d.Members, Policy: d.policy, Agent: d.agent, NodeToken: d.Secret.Password(pgcluster.PasswordNode),
		Logger: d.Logger, State: d.raft.State, View: d.controller.View, Leader: d.raft.Leader,
		Switchover: d.controller.Switchover,
	})
	return httpapi.New(httpapi.Options{
		Assigner: d.store, Recorder: d.store, Layers: d.store, Experiments: d.store,
		Ready:   d.ready,
		Metrics: promhttp.HandlerFor(d.Registry, promhttp.HandlerOpts{}),
		Logger:  d.Logger, Registry: d.Registry, Timeout: d.Timeout,
		Extra: func(r chi.Router) {
			r.Group(cluster)
			r.Group(httpapi.ImportRoutes(d.store, time.Now, d.Logger))
			r.Group(reportapi.Routes(d.reporter, d.Logger))
		},
		OpenAPI: []json.RawMessage{clusterapi.OpenAPI(), httpapi.ImportOpenAPI(), reportapi.OpenAPI()},
	})
}
