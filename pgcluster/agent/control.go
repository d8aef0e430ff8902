package agent

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// States of a data directory as pg_controldata prints them.
const (
	stateShutDown           = "shut down"
	stateShutDownInRecovery = "shut down in recovery"
	stateInArchiveRecovery  = "in archive recovery"
)

// control is what a data directory says about itself.
type control struct {
	SystemID           string
	State              string
	Checkpoint         pgcluster.LSN // where the latest checkpoint record begins
	Timeline           pgcluster.Timeline
	MinRecovery        pgcluster.LSN
	MinRecoverTimeline pgcluster.Timeline
}

// clean reports whether the server that wrote it was shut down in order.
func (c control) clean() bool {
	return c.State == stateShutDown || c.State == stateShutDownInRecovery
}

// timeline returns the newest timeline that the data has been on: right after a
// promotion the latest checkpoint is still on the old one.
func (c control) timeline() pgcluster.Timeline { return max(c.Timeline, c.MinRecoverTimeline) }

// controlData returns what pg_controldata prints.
func (a *Agent) controlData(ctx context.Context, dir string) (map[string]string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(a.o.BinDir, "pg_controldata"), dir)
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("read control file: %w", err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			fields[k] = strings.TrimSpace(v)
		}
	}
	return fields, nil
}

func (a *Agent) readControl(ctx context.Context, dir string) (control, error) {
	fields, err := a.controlData(ctx, dir)
	if err != nil {
		return control{}, err
	}
	c, err := parseControl(fields)
	if err != nil {
		return control{}, fmt.Errorf("read control file: %w", err)
	}
	return c, nil
}

func parseControl(fields map[string]string) (control, error) {
	c := control{
		SystemID: fields["Database system identifier"],
		State:    fields["Database cluster state"],
	}
	if c.SystemID == "" || c.State == "" {
		return control{}, errors.New("pg_controldata names no system identifier or state")
	}
	var err error
	if c.Checkpoint, err = pgcluster.ParseLSN(fields["Latest checkpoint location"]); err != nil {
		return control{}, err
	}
	if c.MinRecovery, err = pgcluster.ParseLSN(fields["Minimum recovery ending location"]); err != nil {
		return control{}, err
	}
	if c.Timeline, err = parseTimeline(fields["Latest checkpoint's TimeLineID"], 10); err != nil {
		return control{}, err
	}
	c.MinRecoverTimeline, err = parseTimeline(fields["Min recovery ending loc's timeline"], 10)
	return c, err
}

func parseTimeline(s string, base int) (pgcluster.Timeline, error) {
	n, err := strconv.ParseUint(s, base, 32)
	if err != nil {
		return 0, fmt.Errorf("timeline %q: %w", s, err)
	}
	return pgcluster.Timeline(n), nil
}

// stopped is a data directory that no server uses.
type stopped struct {
	role     pgcluster.Role
	control  control
	position pgcluster.Position // only if known
	known    bool
	lineage  pgcluster.Lineage
}

// inspect reads the data directory. Without one, the role is RoleNone; so it is
// with half a rewind, which is neither what it was nor what it would become.
func (a *Agent) inspect(ctx context.Context) (stopped, error) {
	if !exists(a.p.data) || exists(a.p.rewinding()) {
		return stopped{role: pgcluster.RoleNone}, nil
	}
	c, err := a.readControl(ctx, a.p.data)
	if err != nil {
		return stopped{}, err
	}
	d := stopped{role: a.roleOf(c), control: c}
	if d.lineage, err = a.readLineage(c.timeline()); err != nil {
		return stopped{}, err
	}
	d.position.Timeline = c.timeline()
	if c.State == stateShutDown {
		end, err := endOfRecord(a.p.wal(), c.Timeline, c.Checkpoint)
		if err != nil {
			return stopped{}, err
		}
		d.position, d.known = pgcluster.Position{Timeline: c.Timeline, LSN: end}, true
	}
	return d, nil
}

// roleOf returns what the data would start as. A promotion removes standby.signal
// before it records the new timeline; what dies in between must go on as the
// standby it was, or it would be a primary on the old timeline.
func (a *Agent) roleOf(c control) pgcluster.Role {
	if exists(a.p.standbySignal()) || c.State == stateInArchiveRecovery || c.State == stateShutDownInRecovery {
		return pgcluster.RoleStandby
	}
	return pgcluster.RolePrimary
}

// markStandby makes the next start a standby's.
func (a *Agent) markStandby() error {
	if exists(a.p.standbySignal()) {
		return nil
	}
	if err := a.owner.replaceDurably(a.p.standbySignal(), nil); err != nil {
		return fmt.Errorf("mark as standby: %w", err)
	}
	return nil
}
