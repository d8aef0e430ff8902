package lease

import (
	"context"
	"errors"
	"fmt"

	"github.com/xpd-platform/xpd/pgcluster"
)

// renew makes one attempt: at the leader if it is known and answers soon, else at
// every node, and by quorum if the primary is here.
func (k *Keeper) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	leader := k.o.Leader()
	err := errors.New("no leader is known")
	if leader != "" {
		if err = k.askLeader(ctx, leader); err == nil {
			return nil
		}
	}
	rest := k.askAll(ctx, leader)
	if rest == nil {
		return nil
	}
	k.metrics.failed()
	return errors.Join(err, rest)
}

func (k *Keeper) askLeader(ctx context.Context, leader pgcluster.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	asked := k.o.Now()
	g, err := k.ask(ctx, leader)
	if err == nil {
		k.take(asked, g)
	}
	return err
}

func (k *Keeper) ask(ctx context.Context, id pgcluster.NodeID) (pgcluster.Grant, error) {
	if id == k.o.Self {
		return k.Grant(ctx)
	}
	return k.o.Nodes.Lease(ctx, id)
}

// askAll asks every other member but one for what it grants, and the standbys for
// their confirmation. It takes what comes and returns once a leader has granted or all
// have answered: with an error if the lease is no longer than before.
func (k *Keeper) askAll(ctx context.Context, but pgcluster.NodeID) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		grant pgcluster.Grant
		err   error
	}
	asked := k.o.Now()
	s, _ := k.o.State()
	answers := make(chan answer, len(s.Members)+1) // room for all: nobody waits for a reader that has gone
	asking := 0
	start := func(ask func() (pgcluster.Grant, error)) {
		asking++
		go func() {
			g, err := ask()
			answers <- answer{g, err}
		}()
	}
	for _, m := range s.Members {
		if m.ID != but && m.ID != k.o.Self { // of its own it has no more than it has
			start(func() (pgcluster.Grant, error) { return k.ask(ctx, m.ID) })
		}
	}
	start(func() (pgcluster.Grant, error) { return k.byQuorum(ctx) })
	granted := false
	var errs []error
	for range asking {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		granted = k.take(asked, a.grant) || granted
		if a.grant.Source == pgcluster.GrantLeader {
			return nil // the rest sees ctx end
		}
	}
	if granted {
		return nil
	}
	return errors.Join(append(errs, errors.New("nobody granted more"))...)
}

// byQuorum returns a grant if this node has the primary and k of the standbys that
// its commits wait for have pledged nothing above its epoch. The package comment
// says why that is enough.
func (k *Keeper) byQuorum(ctx context.Context) (pgcluster.Grant, error) {
	r := k.o.Report()
	s, _ := k.o.State()
	if !leads(r) || s.Primary.Node != k.o.Self || s.Primary.Epoch != r.Led {
		return pgcluster.Grant{}, errNone
	}
	rule, ok := pgcluster.ParseSyncSet(r.SyncNames)
	if !ok || rule.K == 0 {
		return pgcluster.Grant{}, errors.New("commits wait for no standby that could confirm the lease")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, len(rule.Members))
	for _, id := range rule.Members {
		go func() { answers <- k.o.Nodes.Confirm(ctx, id, r.Led) }()
	}
	confirmed := 0
	var errs []error
	for range rule.Members {
		err := <-answers
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if confirmed++; confirmed == rule.K {
			return pgcluster.Grant{Epoch: r.Led, For: Length, Source: pgcluster.GrantQuorum}, nil
		}
	}
	return pgcluster.Grant{}, fmt.Errorf("%d of %d confirmations: %w", confirmed, rule.K, errors.Join(errs...))
}
