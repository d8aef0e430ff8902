package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/internal/clientflags"
)

// How long what is waited for, unless --timeout says otherwise.
const (
	askTime        = 5 * time.Second
	changeTime     = 15 * time.Second // of what is agreed on at once
	switchoverTime = time.Minute
	nodeTime       = 10 * time.Minute // of a node that copies all data first
	recloneTime    = 24 * time.Hour   // of one whose people look on

	patience       = 2 * time.Second        // with a node that hangs; it answers questions from memory
	secondPatience = 700 * time.Millisecond // with a node that may know better than the one that answered
)

// env is what a command may touch in the outside world.
type env struct {
	way     *clientflags.Way
	direct  *http.Client   // for questions to single nodes, see one
	ask     *client.Client // asks the next node soon where one hangs
	act     *client.Client // lets a node take its time
	timeout time.Duration  // 0: as the command sees fit
	in      io.Reader
	out     io.Writer
	err     io.Writer
	json    bool
}

// within bounds what a command does by --timeout, or by usual.
func (e *env) within(ctx context.Context, usual time.Duration) (context.Context, context.CancelFunc) {
	if e.timeout > 0 {
		usual = e.timeout
	}
	return context.WithTimeout(ctx, usual)
}

// cluster returns the status from a node that is in touch with the Raft leader: of
// those named or, if the first of them to answer is not, of those that it knows.
// Without any it is the status of the first, which is not Confirmed.
func (e *env) cluster(ctx context.Context) (client.Cluster, error) {
	first, err := e.ask.Cluster(ctx)
	if err != nil {
		return client.Cluster{}, e.unanswered(err)
	}
	if first.Confirmed {
		return first, nil
	}
	for _, m := range first.Members {
		if m.ID == first.SeenBy {
			continue
		}
		if other, err := e.askOne(ctx, m); err == nil && other.Confirmed {
			return other, nil
		}
	}
	return first, nil
}

func (e *env) askOne(ctx context.Context, m client.ClusterMember) (client.Cluster, error) {
	cl, err := e.one(m, e.direct)
	if err != nil {
		return client.Cluster{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, secondPatience)
	defer cancel()
	return cl.Cluster(ctx)
}

// one returns a client of m and no other node, which sends by hc.
func (e *env) one(m client.ClusterMember, hc *http.Client) (*client.Client, error) {
	return e.way.Client([]string{e.way.URL(m.HTTP)}, hc)
}

// unanswered says what to do where a question was not answered.
func (e *env) unanswered(err error) error {
	servers := strings.Join(e.way.Servers, ", ")
	p, answered := errors.AsType[*client.Problem](err)
	why := e.way.Explain(err)
	_, shut := errors.AsType[*clientflags.AccessError](why)
	switch {
	case shut:
		return exitError{exitUnknown, why}
	case answered && p.Type != "" && !errors.Is(err, context.DeadlineExceeded):
		return err // an xpd says what it does not like
	case answered:
		return exitError{exitUnknown, fmt.Errorf("no xpd answered at %s, but something did: %w\nName an xpd with --server", servers, err)}
	}
	return exitError{exitUnknown, fmt.Errorf("no xpd answered at %s: %w\nStart xpd there, or name other nodes with --server", servers, err)}
}
