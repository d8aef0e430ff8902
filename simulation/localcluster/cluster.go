package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Options configures a Cluster. All fields but Settings, BasePort and Hosts are
// required, and Nodes is not where there are Hosts.
type Options struct {
	Dir      string // of the cluster; made if it is missing
	Binary   string // of xpd
	Nodes    int    // used when the folder is new, like BasePort
	BasePort int    // HTTP of the first node, see Ports; 0 takes any free ports
	PGBin    string // folder of PostgreSQL's programs
	PGUser   string // runs PostgreSQL if this process is root
	Settings []string
	Hosts    []Host // of the nodes n1, n2, …; none: all are on loopback
}

// Host is a place for one node, with an address of its own that the others and
// this process reach. Its processes and folders are still those of this machine,
// as in a network namespace.
type Host struct {
	Address string
	Command []string // runs a program there: goes before the program and its arguments
}

// Cluster is a set of nodes on this machine. Its methods may be called from
// several goroutines.
type Cluster struct {
	o       Options
	dir     string // real path: /proc shows the folders of processes that way
	lock    *os.File
	members []pgcluster.Member
	nodes   map[pgcluster.NodeID]*node
	deaths  chan *DeathError
}

// Open prepares the folder of a cluster, new or used, and starts nothing. It holds
// the folder until Stop or the end of the process, and refuses one that another
// process holds.
func Open(o Options) (*Cluster, error) {
	binary, err := filepath.Abs(o.Binary)
	if err != nil {
		return nil, fmt.Errorf("path of xpd: %w", err)
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("the xpd program: %w", err)
	}
	o.Binary = binary
	dir, err := prepareDir(o.Dir, o.PGUser, reachable)
	if err != nil {
		return nil, err
	}
	held, err := lock(dir)
	if err != nil {
		return nil, err
	}
	members, err := chooseMembers(dir, o)
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	if err := writeSecret(filepath.Join(dir, secretFile)); err != nil {
		return nil, errors.Join(err, held.Close())
	}
	c := &Cluster{
		o: o, dir: dir, lock: held, members: members,
		nodes:  make(map[pgcluster.NodeID]*node, len(members)),
		deaths: make(chan *DeathError, maxNodes),
	}
	for _, m := range members {
		n := &node{member: m, dir: filepath.Join(dir, string(m.ID)), command: o.commandOf(m)}
		if err := os.MkdirAll(n.dir, 0o755); err != nil { //nolint:gosec // PostgreSQL's OS user must get in
			return nil, errors.Join(fmt.Errorf("folder of %s: %w", m.ID, err), held.Close())
		}
		c.nodes[m.ID] = n
	}
	return c, nil
}

// commandOf returns the command of the host that m is on.
func (o Options) commandOf(m pgcluster.Member) []string {
	for _, h := range o.Hosts {
		if h.Address == m.Host {
			return h.Command
		}
	}
	return nil
}

// Dir returns the folder in which the cluster really is.
func (c *Cluster) Dir() string { return c.dir }

// Members returns the nodes, sorted by name.
func (c *Cluster) Members() []pgcluster.Member { return slices.Clone(c.members) }

// URLs returns the base URL of every node's HTTP API, in the order of Members.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.members))
	for i, m := range c.members {
		urls[i] = "http://" + m.HTTPAddr()
	}
	return urls
}

// Deaths tells of nodes whose xpd ended although nobody asked it to.
func (c *Cluster) Deaths() <-chan *DeathError { return c.deaths }

// Guard returns a context that ends with ctx, or with a *DeathError as its cause
// when the xpd of a node ends although nobody asked it to. The caller must call
// the function that it returns too.
func (c *Cluster) Guard(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-ctx.Done():
		case death := <-c.deaths:
			cancel(death)
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Start starts every node. It returns a *PortError, before any is started, if
// somebody else uses a port of the cluster.
func (c *Cluster) Start() error {
	if err := c.checkPorts(); err != nil {
		return err
	}
	if err := c.recordMembers(); err != nil {
		return err
	}
	for _, m := range c.members {
		if err := c.StartNode(m.ID); err != nil {
			return err
		}
	}
	return nil
}

// Admin connects to the PostgreSQL of a node as superuser, over its local socket.
func (c *Cluster) Admin(ctx context.Context, id pgcluster.NodeID) (*pgx.Conn, error) {
	n, err := c.node(id)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=xpd_admin dbname=xpd sslmode=disable connect_timeout=5",
		quoteDSN(filepath.Join(n.dir, "pg", "run")), n.member.PGPort))
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL of %s: %w", id, err)
	}
	return conn, nil
}

// quoteDSN makes value one word of a connection string.
func quoteDSN(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

func (c *Cluster) node(id pgcluster.NodeID) (*node, error) {
	n, ok := c.nodes[id]
	if !ok {
		return nil, fmt.Errorf("there is no node %q", id)
	}
	return n, nil
}

// Stop ends every node in an orderly way, and by force once ctx ends. It returns
// when no process of the cluster is left, and an error if force was needed.
func (c *Cluster) Stop(ctx context.Context) error {
	var errs []error
	for _, m := range c.members {
		errs = append(errs, c.nodes[m.ID].askToStop())
	}
	for _, m := range c.members {
		errs = append(errs, c.nodes[m.ID].awaitStop(ctx))
	}
	errs = append(errs, c.sweep(context.WithoutCancel(ctx)))
	if err := c.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		errs = append(errs, fmt.Errorf("unlock: %w", err))
	}
	return errors.Join(errs...)
}
