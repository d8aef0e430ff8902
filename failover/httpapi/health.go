package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// The answers for load balancers: one line of text, from memory. A node whose lease
// is over says no to each but /live, because what it knows may be out of date.

// fit answers 200 with the line of check, or 503 with its error.
func (s *server) fit(check func(*http.Request) (string, error)) http.HandlerFunc {
	return s.handle(func(w http.ResponseWriter, r *http.Request) error {
		status := http.StatusOK
		line, err := check(r)
		if p, ok := errors.AsType[*unfitError](err); ok {
			status, line = http.StatusServiceUnavailable, p.Error()
		} else if err != nil {
			return err
		}
		line += "\n"
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(line)))
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, line) // the client has gone: nobody is left to tell
		return nil
	})
}

// unfitError is why a node is not what was asked for.
type unfitError struct{ reason string }

func (e *unfitError) Error() string { return e.reason }

func unfit(format string, args ...any) error { return &unfitError{fmt.Sprintf(format, args...)} }

func (s *server) live(*http.Request) (string, error) { return "live", nil }

func (s *server) ready(*http.Request) (string, error) {
	if err := s.Ready(); err != nil {
		return "", &unfitError{err.Error()}
	}
	return "ready", nil
}

// scene is what the questions about this node's PostgreSQL are answered from.
type scene struct {
	state failover.State
	view  failover.View
	own   pgcluster.Report
}

// scene fails if this node does not know enough to answer, or its PostgreSQL does not
// answer itself.
func (s *server) scene() (scene, error) {
	st, _ := s.State()
	c := scene{state: st, view: s.View()}
	c.own = c.view.Reports[s.Self].Report
	switch {
	case s.Lease.Left() <= 0:
		return c, unfit("%s has no lease: what it knows may be out of date", s.Self)
	case st.Primary.Access != failover.AccessOpen:
		return c, unfit("no primary is open")
	case !c.own.Running():
		return c, unfit("PostgreSQL of %s is %s", s.Self, c.own.Process)
	case c.own.AnsweredAgo >= s.Policy.Hung:
		return c, unfit("PostgreSQL of %s does not answer", s.Self)
	}
	return c, nil
}

func (s *server) isPrimary(*http.Request) (string, error) {
	c, err := s.scene()
	if err != nil {
		return "", err
	}
	p := c.state.Primary
	if p.Node != s.Self {
		return "", unfit("%s is primary, not %s", p.Node, s.Self)
	}
	if c.own.Role != pgcluster.RolePrimary || c.own.Led != p.Epoch || c.own.Open != p.Epoch {
		return "", unfit("%s is not open yet", s.Self)
	}
	return fmt.Sprintf("primary of epoch %d", p.Epoch), nil
}

func (s *server) isReplica(r *http.Request) (string, error) {
	bound, err := parseLag(r.URL.Query().Get("lag"))
	if err != nil {
		return "", err
	}
	c, err := s.scene()
	if err != nil {
		return "", err
	}
	_, gap, lag, err := s.streams(c)
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("replica, %d bytes and %v behind", gap, lag.Round(time.Millisecond))
	if bound.bytes >= 0 && gap > bound.bytes || bound.time >= 0 && lag > bound.time {
		return "", &unfitError{line}
	}
	return line, nil
}

func (s *server) isSync(*http.Request) (string, error) {
	c, err := s.scene()
	if err != nil {
		return "", err
	}
	sender, _, _, err := s.streams(c)
	if err != nil {
		return "", err
	}
	if !c.state.Sync.Durable.Has(s.Self) || sender.SyncPriority == 0 {
		return "", unfit("commits do not wait for %s", s.Self)
	}
	return fmt.Sprintf("in the sync set %v", c.state.Sync.Durable), nil
}

// streams returns how the primary serves this standby: how much WAL it has not
// replayed, and how old at most is what it shows.
func (s *server) streams(c scene) (sender pgcluster.Sender, gap int64, lag time.Duration, err error) { //nolint:revive // one fact in three numbers
	p := c.state.Primary
	if p.Node == s.Self || c.own.Role != pgcluster.RoleStandby {
		return sender, 0, 0, unfit("%s is no standby", s.Self)
	}
	seen, ok := c.view.Reports[p.Node]
	age := c.view.Now - seen.At
	if !ok || age >= s.Policy.Silence {
		return sender, 0, 0, unfit("the primary %s was not heard for long, so the lag of %s is not known", p.Node, s.Self)
	}
	sender, ok = seen.Report.Sender(s.Self)
	if !ok || !sender.Streaming || !c.own.Receiver.Streaming || c.own.Followed != p.Epoch {
		return sender, 0, 0, unfit("%s does not stream from the primary %s", s.Self, p.Node)
	}
	if ahead := seen.Report.Position.LSN; ahead > c.own.Replayed {
		gap = int64(ahead - c.own.Replayed) //nolint:gosec // of WAL that exists
	}
	return sender, gap, age + sender.ReplayLag, nil
}

// lagBound is how far behind a replica may be; what is negative has no bound.
type lagBound struct {
	bytes int64
	time  time.Duration
}

// parseLag reads a duration such as 10s or a size such as 16MB, in powers of 1024.
func parseLag(text string) (lagBound, error) {
	none := lagBound{bytes: -1, time: -1}
	if text == "" {
		return none, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		none.time = d
		return none, nil
	}
	for _, unit := range []struct {
		name  string
		shift uint
	}{{"kB", 10}, {"MB", 20}, {"GB", 30}, {"B", 0}} {
		number, found := strings.CutSuffix(text, unit.name)
		n, err := strconv.ParseUint(number, 10, 32)
		if found && err == nil {
			none.bytes = int64(n) << unit.shift
			return none, nil
		}
	}
	return none, invalid("lag", "want a duration such as 10s, or a size such as 16MB")
}
