package pool

import (
	"fmt"
	"maps"

	"github.com/xpd-platform/xpd/pgcluster"
)

// SetMembers keeps connections to members from now on, and to nobody else: those to
// a node that is none any more, or has moved, are closed. Witnesses have no
// PostgreSQL and are passed over. A member whose address cannot be used is logged
// and left out.
func (p *Pools) SetMembers(members []pgcluster.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	old := *p.nodes.Load()
	next, err := p.nodesOf(members, old)
	if err != nil {
		p.logger.Error("a member is not connected to", "error", err)
	}
	if maps.Equal(old, next) {
		return
	}
	p.nodes.Store(&next)
	for id, n := range next {
		if old[id] != n && p.keep != nil {
			p.keep(n)
		}
	}
	for id, n := range old {
		if next[id] == n {
			continue
		}
		if n.stop != nil {
			n.stop()
		}
		n.close(true)
		if next[id] == nil {
			p.metrics.connections.DeleteLabelValues(string(id))
		}
	}
	// Who waits for the target looks again whether there is such a node.
	was := p.state.Load()
	p.state.Store(&state{Target: was.Target, changed: make(chan struct{})})
	close(was.changed)
}

// node returns the node called id, or nil.
func (p *Pools) node(id pgcluster.NodeID) *node { return (*p.nodes.Load())[id] }

// nodesOf returns the nodes of members, taking from old those that are the same.
// With an error it returns those that it could make.
func (p *Pools) nodesOf(members []pgcluster.Member, old map[pgcluster.NodeID]*node) (map[pgcluster.NodeID]*node, error) {
	nodes := make(map[pgcluster.NodeID]*node, len(members))
	var failed error
	for _, m := range members {
		if !m.Data() {
			continue
		}
		if n := old[m.ID]; n != nil && n.addr == m.PGAddr() {
			nodes[m.ID] = n
			continue
		}
		config, err := connConfig(m, p.o)
		if err != nil {
			failed = fmt.Errorf("pool of %s: %w", m.ID, err)
			continue
		}
		nodes[m.ID] = &node{
			addr:    m.PGAddr(),
			config:  config,
			tls:     p.o.TLS,
			prepare: p.o.Prepare,
			min:     int(p.o.MinConns),
			slots:   make(chan struct{}, p.o.MaxConns),
			opening: make(chan struct{}, maxOpening),
			idled:   make(chan struct{}, p.o.MaxConns),
			open:    map[*session]struct{}{},
			gauge:   p.metrics.connections.WithLabelValues(string(m.ID)),
			logger:  p.o.Logger.With("node", string(m.ID)),
		}
	}
	return nodes, failed
}
