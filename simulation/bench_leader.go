package simulation

import (
	"context"
	"errors"
	"slices"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/netns"
)

// LeadFromStandby returns the primary once Raft's leader is on another host. The
// cluster sees to that itself.
func (s *Session) LeadFromStandby(ctx context.Context) (pgcluster.NodeID, error) {
	var primary pgcluster.NodeID
	err := s.await(ctx, "a leader that is not the primary", func() bool {
		st, err := s.Client.Cluster(ctx)
		primary = st.Primary
		return err == nil && st.Op == nil && primary != "" && st.Leader != "" && st.Leader != primary
	})
	return primary, err
}

// LeadFromPrimary makes the primary the leader of Raft and returns it. The cluster
// would move the leadership away at once, so two things are in its way, until the
// network's Unblock: nobody else may ask for votes, and the primary hears of nobody
// whom it could hand over to.
func (s *Session) LeadFromPrimary(ctx context.Context, network *netns.Network) (pgcluster.NodeID, error) {
	primary, err := s.LeadFromStandby(ctx)
	if err != nil {
		return "", err
	}
	others := s.others(primary)
	errs := []error{network.Block(ctx, primary, pgcluster.DefaultHTTPPort, others...)}
	for _, id := range others {
		errs = append(errs, network.Block(ctx, id, pgcluster.DefaultRaftPort, s.others(id)...))
	}
	var nodes []*client.Client // each knows one node
	for _, m := range s.Cluster.Members() {
		node, err := s.Cluster.NodeClient(m.ID, access.RoleDBA)
		nodes, errs = append(nodes, node), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return primary, s.await(ctx, "the primary to lead", func() bool {
		return !slices.ContainsFunc(nodes, func(c *client.Client) bool {
			st, err := c.Cluster(ctx)
			return err != nil || st.Leader != primary || st.Primary != primary
		})
	})
}

func (s *Session) others(than pgcluster.NodeID) []pgcluster.NodeID {
	var ids []pgcluster.NodeID
	for _, m := range s.Cluster.Members() {
		if m.ID != than {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
