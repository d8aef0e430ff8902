package localcluster

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// DefaultBasePort gives HTTP 8301…, Raft 8401…, PostgreSQL 5501….
const DefaultBasePort = 8301

// How the other ports follow from the base port.
const (
	raftOffset = 100
	pgOffset   = -2800
	maxNodes   = 50
)

// Base ports of clusters that take any free ports. All their ports are below the
// range that Linux takes for outgoing connections, so that none of those is in
// the way later.
const (
	freeBaseMin   = 17800
	freeBaseMax   = 32600
	freeBaseTries = 200
)

// PortError says which port of a cluster somebody else uses.
type PortError struct {
	Node pgcluster.NodeID
	Use  string // what the cluster needs it for
	Port int
}

func (e *PortError) Error() string {
	return fmt.Sprintf("port %d, for %s of %s, is in use by another program: end it, or take other ports for a new cluster with --base-port", e.Port, e.Use, e.Node)
}

// Ports returns the nodes n1, n2, … on loopback: HTTP from base on, Raft from
// base+100 on, PostgreSQL from base−2800 on.
func Ports(base, nodes int) ([]pgcluster.Member, error) {
	if nodes < 1 || nodes > maxNodes {
		return nil, fmt.Errorf("%d nodes: want 1 to %d", nodes, maxNodes)
	}
	if low, high := 1024-pgOffset, 65535-raftOffset-nodes; base < low || base > high {
		return nil, fmt.Errorf("--base-port %d: want %d to %d, so that all ports of the cluster are valid", base, low, high)
	}
	members := make([]pgcluster.Member, nodes)
	for i := range members {
		members[i] = pgcluster.Member{
			ID:       pgcluster.NodeID("n" + strconv.Itoa(i+1)),
			Host:     "127.0.0.1",
			HTTPPort: base + i, RaftPort: base + raftOffset + i, PGPort: base + pgOffset + i,
		}
	}
	return members, nil
}

// onHosts returns one node for each host, all with the usual ports.
func onHosts(hosts []Host) []pgcluster.Member {
	members := make([]pgcluster.Member, len(hosts))
	for i, h := range hosts {
		members[i] = pgcluster.Member{
			ID:       pgcluster.NodeID("n" + strconv.Itoa(i+1)),
			Host:     h.Address,
			HTTPPort: pgcluster.DefaultHTTPPort, RaftPort: pgcluster.DefaultRaftPort, PGPort: pgcluster.DefaultPGPort,
		}
	}
	return members
}

// freePorts draws base ports until all ports of one are free.
func freePorts(nodes int) ([]pgcluster.Member, error) {
	for range freeBaseTries {
		base := freeBaseMin + rand.IntN(freeBaseMax-freeBaseMin)
		members, err := Ports(base, nodes)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(members, func(m pgcluster.Member) bool { return len(takenPorts(m)) > 0 }) {
			return members, nil
		}
	}
	return nil, errors.New("found no free ports")
}

// chooseMembers returns the nodes of a used folder, whose addresses are part of what
// Raft has stored, or chooses those of a new one.
func chooseMembers(dir string, o Options) ([]pgcluster.Member, error) {
	path := filepath.Join(dir, membersFile)
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		members, err := pgcluster.ParseMembers(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if was := members[0].HTTPPort; o.BasePort != 0 && o.BasePort != was {
			return nil, fmt.Errorf("the cluster in %s was made with --base-port %d and keeps it: use that, or another folder", dir, was)
		}
		return members, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the cluster's nodes: %w", err)
	}
	var members []pgcluster.Member
	switch {
	case len(o.Hosts) > 0:
		members, err = onHosts(o.Hosts), nil
	case o.BasePort == 0:
		members, err = freePorts(o.Nodes)
	default:
		members, err = Ports(o.BasePort, o.Nodes)
	}
	for i := max(0, len(members)-o.Witnesses); i < len(members); i++ {
		members[i].Witness = true
	}
	return members, err
}

// recordMembers makes the nodes those of the folder for good.
func (c *Cluster) recordMembers() error {
	path := filepath.Join(c.dir, membersFile)
	if err := os.WriteFile(path, []byte(pgcluster.FormatMembers(c.current())+"\n"), 0o644); err != nil { //nolint:gosec // for people to read
		return fmt.Errorf("record the cluster's nodes: %w", err)
	}
	return nil
}

// checkPorts returns a *PortError for the first port that somebody else uses. A
// PostgreSQL of this cluster that outlived its xpd is not somebody else. Hosts of
// their own are not looked at: nobody else is on them.
func (c *Cluster) checkPorts() error {
	if len(c.o.Hosts) > 0 {
		return nil
	}
	for _, m := range c.current() {
		for _, taken := range takenPorts(m) {
			if taken.Use == usePG && c.nodes[m.ID].postgresRuns() {
				continue
			}
			return &taken
		}
	}
	return nil
}

const usePG = "PostgreSQL"

// takenPorts returns the ports of m that somebody listens on.
func takenPorts(m pgcluster.Member) []PortError {
	var taken []PortError
	for _, p := range []PortError{{m.ID, "HTTP", m.HTTPPort}, {m.ID, "Raft", m.RaftPort}, {m.ID, usePG, m.PGPort}} {
		ln, err := net.Listen("tcp", net.JoinHostPort(m.Host, strconv.Itoa(p.Port))) //nolint:noctx // returns at once
		if err != nil {
			taken = append(taken, p)
			continue
		}
		_ = ln.Close() // nothing was accepted
	}
	return taken
}
