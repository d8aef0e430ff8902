package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// because is what every change of the cluster may be given.
type because struct {
	Reason string `help:"Kept in the history."`
}

// unasked is for changes that take nothing from anybody, and so ask nothing: scripts give
// -y to every change.
type unasked struct {
	Yes bool `short:"y" hidden:"" help:"Nothing is asked."`
}

// operator is who is at the keyboard, for the history: under sudo the one who called
// it.
func operator() string {
	name := os.Getenv("SUDO_USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	keep := func(r rune) rune {
		if r < '0' || r > 'z' || (r > '9' && r < 'A') || (r > 'Z' && r < 'a') {
			return -1
		}
		return r
	}
	return strings.Map(keep, name)
}

// errAborted is returned where nobody said y.
var errAborted = errors.New("not confirmed: nothing was done (-y does not ask)")

// question puts one and returns the answer without spaces around it; an answer that
// breaks off is none. Waiting for it is not bounded.
func (e *env) question(ctx context.Context, format string, args ...any) string {
	fmt.Fprintf(e.err, format, args...)
	answer := make(chan string, 1)
	// A read of a terminal cannot be ended; when pgctl is interrupted, it exits instead.
	go func() {
		line, err := bufio.NewReader(e.in).ReadString('\n')
		if err != nil {
			line = ""
		}
		answer <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(e.err)
		return ""
	case line := <-answer:
		if line == "" {
			fmt.Fprintln(e.err)
		}
		return strings.TrimSpace(line)
	}
}

// confirmed returns nil if somebody says y.
func (e *env) confirmed(ctx context.Context, format string, args ...any) error {
	switch strings.ToLower(e.question(ctx, format+" [y/N] ", args...)) {
	case "y", "yes":
		return nil
	}
	return errAborted
}

// print writes v as JSON, or text where JSON was not asked for.
func (e *env) print(v any, text string) error {
	if e.json {
		return printJSON(e.out, v)
	}
	_, err := fmt.Fprint(e.out, text)
	return err
}

// until looks at the cluster until ok says so; see lookUntil.
func (e *env) until(ctx context.Context, goal string, ok func(client.Cluster) (done bool, missing string)) (client.Cluster, error) {
	return lookUntil(ctx, e, goal, e.ask.Cluster, ok)
}

// lookUntil asks until ok says so of an answer, telling what it waits for whenever that
// changes. What ok returns besides is what is missing.
func lookUntil[T any](ctx context.Context, e *env, goal string, ask func(context.Context) (T, error), ok func(T) (done bool, missing string)) (T, error) {
	tick := time.NewTicker(follow)
	defer tick.Stop()
	p := newProgress(e.err)
	defer p.end()
	var began time.Time // when it first told of something
	told := ""
	for {
		now, err := ask(ctx)
		missing := "no xpd answers"
		if err == nil {
			var done bool
			if done, missing = ok(now); done {
				p.finish(time.Since(began) - p.at)
				return now, nil
			}
		}
		if missing != told && ctx.Err() == nil {
			if told == "" {
				began = time.Now()
			}
			told = missing
			p.step(time.Since(began), missing)
		}
		select {
		case <-ctx.Done():
			why := "interrupted"
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				why = "out of time"
			}
			return now, fmt.Errorf("%s before %s: %s\nThe cluster goes on without pgctl; pgctl status shows where it is", why, goal, told)
		case <-tick.C:
			p.tick()
		}
	}
}

// memberOf returns the member called id.
func memberOf(c client.Cluster, id pgcluster.NodeID) (client.ClusterMember, bool) {
	for _, m := range c.Members {
		if m.ID == id {
			return m, true
		}
	}
	return client.ClusterMember{}, false
}

// nodeOf returns the state of the node called id.
func nodeOf(c client.Cluster, id pgcluster.NodeID) failover.NodeStatus {
	for _, n := range c.Nodes {
		if n.ID == id {
			return n
		}
	}
	return failover.NodeStatus{}
}
