package failovertest

import (
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// roles makes clusters differ: witnesses, zones, tags, modes, and hosts that join
// later. Half of the histories have none of it.
func (c *cluster) roles() {
	s := &c.raft.state
	if c.chance(2) {
		return
	}
	if c.chance(4) {
		s.Settings.Mode = failover.ModeAvailable
	}
	zoned := c.chance(3)
	for i := range s.Members {
		m := &s.Members[i]
		switch {
		case len(s.Members) > 2 && i == len(s.Members)-1 && c.chance(4):
			m.Witness = true
			continue
		case i > 1:
			c.tag(m)
		}
		if zoned {
			m.Zone = []string{"a", "b", "c"}[c.rng.IntN(3)]
		}
	}
	if c.chance(5) {
		s.Settings.K = 1 + c.rng.IntN(max(1, len(s.Members)-2))
	}
	if c.chance(3) {
		c.addHost() // not a member yet
	}
}

func (c *cluster) tag(m *pgcluster.Member) {
	m.Priority = c.rng.IntN(3)
	m.NoFailover, m.NoSync = c.chance(8), c.chance(8)
}

// ask is what a person wants changed, put to whoever believes to lead.
func (c *cluster) ask(what string, change func(failover.State, failover.View) (failover.State, error)) {
	for _, n := range c.nodes {
		if !n.alive() || n.leading == 0 || n.saving {
			continue
		}
		n.look()
		next, err := change(n.replica, n.view)
		if err != nil {
			c.logf("%s asked of %s: %v", what, n.id, err)
			continue
		}
		c.logf("%s asked of %s", what, n.id)
		c.result.Changes++
		n.save(next, nil)
	}
}

// wish asks for something.
func (c *cluster) wish() {
	switch c.rng.IntN(14) {
	case 0, 1, 2:
		c.switchover()
	case 3, 4:
		c.reconfigure()
	case 5:
		until := time.Unix(0, 0).Add(c.now + c.between(time.Second, 5*time.Second))
		c.ask("pause", func(s failover.State, v failover.View) (failover.State, error) {
			return failover.SetPause(s, v, c.policy, until, "asked for")
		})
	case 6:
		n := c.any()
		c.ask("removal of "+string(n.id), func(s failover.State, v failover.View) (failover.State, error) {
			return failover.RemoveMember(s, v, c.policy, n.id)
		})
	case 7:
		for _, n := range c.nodes {
			if _, ok := c.raft.state.Member(n.id); !ok && !c.raft.state.Removed(n.id) {
				c.ask("adding "+string(n.id), func(s failover.State, v failover.View) (failover.State, error) {
					return failover.AddMember(s, v, c.policy, n.address())
				})
				return
			}
		}
	case 8:
		c.retag()
	case 9:
		c.askRestart()
	case 10, 11:
		c.askMaintenance(c.any())
	case 12:
		c.askReclone(c.any())
	case 13:
		c.askFence(c.any())
	}
}

func (c *cluster) switchover() {
	var to pgcluster.NodeID
	if c.chance(2) {
		to = c.any().id
	}
	c.ask("switchover to "+string(to), func(s failover.State, v failover.View) (failover.State, error) {
		return failover.Switchover(s, v, c.policy, to, "asked for")
	})
}

func (c *cluster) reconfigure() {
	mode, k := failover.ModeProtect, 0
	if c.chance(2) {
		mode = failover.ModeAvailable
	}
	if c.chance(2) {
		k = 1 + c.rng.IntN(3)
	}
	c.ask("settings", func(s failover.State, v failover.View) (failover.State, error) {
		return failover.Configure(s, v, c.policy, mode, k, nil)
	})
}

func (c *cluster) retag() {
	m, ok := c.raft.state.Member(c.any().id)
	if !ok {
		return
	}
	c.tag(&m)
	c.ask("tags of "+string(m.ID), func(s failover.State, v failover.View) (failover.State, error) {
		return failover.ChangeMember(s, v, c.policy, m)
	})
}
