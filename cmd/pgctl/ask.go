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
)

// How long what is waited for, unless --timeout says otherwise.
const (
	askTime        = 5 * time.Second
	switchoverTime = time.Minute

	patience       = 2 * time.Second        // with a node that hangs; it answers questions from memory
	secondPatience = 700 * time.Millisecond // with a node that may know better than the one that answered
)

// env is what a command may touch in the outside world.
type env struct {
	servers []string
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
		if other, err := askOne(ctx, "http://"+m.HTTP); err == nil && other.Confirmed {
			return other, nil
		}
	}
	return first, nil
}

func askOne(ctx context.Context, url string) (client.Cluster, error) {
	cl, err := client.New([]string{url}, http.DefaultClient)
	if err != nil {
		return client.Cluster{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, secondPatience)
	defer cancel()
	return cl.Cluster(ctx)
}

// unanswered says what to do where a question was not answered.
func (e *env) unanswered(err error) error {
	servers := strings.Join(e.servers, ", ")
	p, answered := errors.AsType[*client.Problem](err)
	switch {
	case answered && p.Type != "" && !errors.Is(err, context.DeadlineExceeded):
		return err // an xpd says what it does not like
	case answered:
		return exitError{exitUnknown, fmt.Errorf("no xpd answered at %s, but something did: %w\nName an xpd with --server", servers, err)}
	}
	return exitError{exitUnknown, fmt.Errorf("no xpd answered at %s: %w\nStart xpd there, or name other nodes with --server", servers, err)}
}
