package netns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/xpd-platform/xpd/pgcluster"
)

// filter is a rule of one host's packet filter: what to drop of what arrives.
type filter struct {
	at   Host
	args []string
}

// Cut drops all packets between a and b.
func (n *Network) Cut(ctx context.Context, a, b pgcluster.NodeID) error {
	return n.cutPairs(ctx, [][2]pgcluster.NodeID{{a, b}, {b, a}})
}

// CutOneWay drops all packets that from sends to each of to.
func (n *Network) CutOneWay(ctx context.Context, from pgcluster.NodeID, to ...pgcluster.NodeID) error {
	pairs := make([][2]pgcluster.NodeID, len(to))
	for i, id := range to {
		pairs[i] = [2]pgcluster.NodeID{from, id}
	}
	return n.cutPairs(ctx, pairs)
}

// Isolate drops all packets between a and the other hosts. This process still
// reaches a.
func (n *Network) Isolate(ctx context.Context, a pgcluster.NodeID) error {
	var pairs [][2]pgcluster.NodeID
	for _, h := range n.hosts {
		if h.ID != a {
			pairs = append(pairs, [2]pgcluster.NodeID{a, h.ID}, [2]pgcluster.NodeID{h.ID, a})
		}
	}
	return n.cutPairs(ctx, pairs)
}

// CutPort drops all packets between a TCP port of server and the other hosts.
func (n *Network) CutPort(ctx context.Context, server pgcluster.NodeID, port int) error {
	s, err := n.host(server)
	if err != nil {
		return err
	}
	var filters []filter
	for _, h := range n.hosts {
		if h.ID != server {
			filters = append(filters,
				filter{s, []string{"-p", "tcp", "--dport", strconv.Itoa(port), "-s", h.Address}},
				filter{h, []string{"-p", "tcp", "--sport", strconv.Itoa(port), "-s", s.Address}})
		}
	}
	return n.drop(ctx, filters)
}

// Block drops what from sends to a TCP port of each of to. Their answers to what they
// asked themselves still arrive.
func (n *Network) Block(ctx context.Context, from pgcluster.NodeID, port int, to ...pgcluster.NodeID) error {
	f, err := n.host(from)
	if err != nil {
		return err
	}
	filters := make([]filter, len(to))
	for i, id := range to {
		h, err := n.host(id)
		if err != nil {
			return err
		}
		filters[i] = filter{h, []string{"-p", "tcp", "--dport", strconv.Itoa(port), "-s", f.Address}}
	}
	return n.drop(ctx, filters)
}

// Lose drops packets between the hosts at random, each with the given probability.
func (n *Network) Lose(ctx context.Context, probability float64) error {
	var filters []filter
	for _, to := range n.hosts {
		for _, from := range n.hosts {
			if from.ID != to.ID {
				filters = append(filters, filter{to, []string{
					"-s", from.Address, "-m", "statistic", "--mode", "random", "--probability", strconv.FormatFloat(probability, 'f', -1, 64),
				}})
			}
		}
	}
	return n.drop(ctx, filters)
}

// Unplug takes the link of a host down: it reaches nobody, not even this process.
func (n *Network) Unplug(ctx context.Context, a pgcluster.NodeID) error {
	h, err := n.host(a)
	if err != nil {
		return err
	}
	return run(ctx, nil, "ip", "link", "set", h.port, "down")
}

// Heal makes every link whole again.
func (n *Network) Heal(all context.Context) error {
	g, ctx := errgroup.WithContext(all)
	for _, h := range n.hosts {
		g.Go(func() error { return run(ctx, nil, "ip", "link", "set", h.port, "up") })
	}
	g.Go(func() error { return n.Unblock(ctx) })
	return errors.Join(g.Wait(), n.endDelays(all))
}

// Unblock lets all packets pass again where a link is up.
func (n *Network) Unblock(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range n.hosts {
		g.Go(func() error { return h.iptables(ctx, "-F", "INPUT") })
	}
	return g.Wait()
}

// cutPairs drops what the first of each pair sends to the second.
func (n *Network) cutPairs(ctx context.Context, pairs [][2]pgcluster.NodeID) error {
	filters := make([]filter, len(pairs))
	for i, p := range pairs {
		from, err := n.host(p[0])
		if err != nil {
			return err
		}
		to, err := n.host(p[1])
		if err != nil {
			return err
		}
		filters[i] = filter{to, []string{"-s", from.Address}}
	}
	return n.drop(ctx, filters)
}

// drop puts filters into force, all at about the same time. They are where packets
// arrive: one that is dropped where it is sent is an error that its sender sees.
func (n *Network) drop(ctx context.Context, filters []filter) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range filters {
		g.Go(func() error {
			return f.at.iptables(ctx, slices.Concat([]string{"-I", "INPUT"}, f.args, []string{"-j", "DROP"})...)
		})
	}
	return g.Wait()
}

func (h Host) iptables(ctx context.Context, args ...string) error {
	command := slices.Concat(h.Command(), []string{"iptables", "-w"}, args)
	return run(ctx, nil, command[0], command[1:]...)
}

func (n *Network) host(id pgcluster.NodeID) (Host, error) {
	i := slices.IndexFunc(n.hosts, func(h Host) bool { return h.ID == id })
	if i < 0 {
		return Host{}, fmt.Errorf("there is no host %q", id)
	}
	return n.hosts[i], nil
}
