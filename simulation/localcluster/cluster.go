package localcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Options configures a Cluster. All fields from Settings on and BasePort are optional,
// and Nodes is not needed where there are Hosts.
type Options struct {
	Dir      string // of the cluster; made if it is missing
	Binary   string // of xpd
	Nodes    int    // used when the folder is new, like BasePort
	BasePort int    // HTTP of the first node, see Ports; 0 takes any free ports
	PGBin    string // folder of PostgreSQL's programs
	PGUser   string // runs PostgreSQL if this process is root
	Settings []string
	Hosts    []Host // of the nodes n1, n2, …; none: all are on loopback

	Witnesses int                           // how many of the nodes, the last ones, have no PostgreSQL
	Flags     map[pgcluster.NodeID][]string // more of xpd run's, for single nodes
	// Secure has the nodes speak TLS and ask for tokens; see Client.
	Secure bool
	// KeepPostgres has PostgreSQL run on while its xpd does not, as in production. Stop
	// ends it all the same.
	KeepPostgres bool
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
	o      Options
	dir    string // real path: /proc shows the folders of processes that way
	lock   *os.File
	first  []pgcluster.Member // at the first start
	deaths chan *DeathError
	door   *door        // nil: open to everybody on this machine
	http   *http.Client // of this process

	mu      sync.Mutex
	members []pgcluster.Member // never changed in place
	nodes   map[pgcluster.NodeID]*node
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
		o: o, dir: dir, lock: held, first: members, members: members,
		nodes:  make(map[pgcluster.NodeID]*node, len(members)),
		deaths: make(chan *DeathError, maxNodes),
		http:   http.DefaultClient,
	}
	if o.Secure {
		if c.door, err = newDoor(dir); err != nil {
			return nil, errors.Join(err, held.Close())
		}
		c.http = &http.Client{Transport: client.NewTransport(c.Trust())}
	}
	for _, m := range members {
		n, err := c.newNode(m)
		if err != nil {
			return nil, errors.Join(err, held.Close())
		}
		c.nodes[m.ID] = n
	}
	return c, nil
}

// newNode makes the folder of a node, and its certificate.
func (c *Cluster) newNode(m pgcluster.Member) (*node, error) {
	n := &node{member: m, dir: filepath.Join(c.dir, string(m.ID)), command: c.o.commandOf(m), keepsPostgres: c.o.KeepPostgres}
	if err := os.MkdirAll(n.dir, 0o755); err != nil { //nolint:gosec // PostgreSQL's OS user must get in
		return nil, fmt.Errorf("folder of %s: %w", m.ID, err)
	}
	if c.door != nil {
		if err := c.door.certify(m); err != nil {
			return nil, fmt.Errorf("certificate of %s: %w", m.ID, err)
		}
	}
	return n, nil
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
func (c *Cluster) Members() []pgcluster.Member { return slices.Clone(c.current()) }

// current returns the members, which the caller must not change.
func (c *Cluster) current() []pgcluster.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members
}

// URLs returns the base URL of every node's HTTP API, in the order of Members.
func (c *Cluster) URLs() []string {
	members := c.current()
	urls := make([]string, len(members))
	for i, m := range members {
		urls[i] = c.url(m)
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
	for _, m := range c.current() {
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
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=xpd_admin dbname=xpd sslmode=prefer connect_timeout=5",
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
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[id]
	if !ok {
		return nil, fmt.Errorf("there is no node %q", id)
	}
	return n, nil
}

// Stop ends every node in an orderly way, and by force once ctx ends. It returns
// when no process of the cluster is left, and an error if force was needed.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	nodes := slices.Collect(maps.Values(c.nodes))
	c.mu.Unlock()
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.askToStop())
	}
	for _, n := range nodes {
		errs = append(errs, n.awaitStop(ctx))
	}
	errs = append(errs, c.sweep(context.WithoutCancel(ctx)))
	c.http.CloseIdleConnections()
	if err := c.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		errs = append(errs, fmt.Errorf("unlock: %w", err))
	}
	return errors.Join(errs...)
}
