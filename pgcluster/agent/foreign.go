package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// adoptStop is how long a server that is taken over may take to shut down cleanly.
const adoptStop = time.Minute

// foreign reports whether the data directory is somebody else's, to be taken over by
// the first order to lead or to follow.
func (a *Agent) foreign() bool {
	st := a.state.get()
	return a.o.Adopt && st.Adopted == nil && st.Led == 0 && st.Followed == 0 && exists(a.p.data)
}

// startedByUs tells a server of the agent's from one that was started with another
// configuration.
func (a *Agent) startedByUs(pid int) bool {
	return slices.Contains(commandLine(pid), "config_file="+a.p.config())
}

func commandLine(pid int) []string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
}

// unitOf names the systemd unit that started pid, or "".
func unitOf(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if unit := filepath.Base(strings.TrimSpace(line)); strings.HasSuffix(unit, ".service") {
			return unit
		}
	}
	return ""
}

// checkDataDir refuses a data directory elsewhere that the agent could not work with,
// before anything depends on it.
func (a *Agent) checkDataDir(ctx context.Context) error {
	if a.p.data == filepath.Join(a.p.pg, "data") {
		return nil
	}
	// Clones are made beside it, and renamed.
	trial := a.p.data + ".trial"
	if err := a.owner.mkdir(trial); err != nil {
		return fmt.Errorf("no room for clones beside %s: %w", a.p.data, err)
	}
	if err := os.Remove(trial); err != nil {
		return fmt.Errorf("no room for clones beside %s: %w", a.p.data, err)
	}
	if !exists(a.p.data) {
		return nil
	}
	info, err := os.Stat(a.p.data)
	if err != nil {
		return err
	}
	want := uint32(os.Geteuid()) //nolint:gosec // a user id
	if a.owner.credential != nil {
		want = a.owner.credential.Uid
	}
	if got, ok := info.Sys().(*syscall.Stat_t); ok && got.Uid != want {
		return fmt.Errorf("%s belongs to the OS user with id %d, PostgreSQL would run as %d", a.p.data, got.Uid, want)
	}
	version, err := os.ReadFile(filepath.Join(a.p.data, "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("%s is no data directory: %w", a.p.data, err)
	}
	if v := strings.TrimSpace(string(version)); v != "15" {
		return fmt.Errorf("%s is of PostgreSQL %s, this is for 15", a.p.data, v)
	}
	if a.foreign() {
		a.warnOfData(ctx)
	}
	return nil
}

// warnOfData tells what makes an adopted database less than one that xpd made.
func (a *Agent) warnOfData(ctx context.Context) {
	out, err := a.controlData(ctx, a.p.data)
	if err != nil {
		a.log.WarnContext(ctx, "data directory not readable", "error", err)
		return
	}
	if out["Data page checksum version"] == "0" {
		a.log.WarnContext(ctx, "the data to adopt has no checksums: a broken disk may go unnoticed; pg_checksums adds them while PostgreSQL is stopped")
	}
	if out["wal_level setting"] == "minimal" {
		a.log.WarnContext(ctx, "the data to adopt was written with wal_level minimal; xpd starts it with replica, and its standbys are cloned")
	}
	if spaces, err := os.ReadDir(filepath.Join(a.p.data, "pg_tblspc")); err == nil && len(spaces) > 0 {
		a.log.WarnContext(ctx, "the data to adopt has tablespaces: clones need the same paths, empty, on their hosts")
	}
}

// beginForeign reports a server that others have started. If the data is ours, it is
// stopped at once: it knows nothing of epochs.
func (a *Agent) beginForeign(ctx context.Context) error {
	if !a.foreign() {
		a.log.ErrorContext(ctx, "stopped a PostgreSQL on xpd's data", "error", a.expel(ctx))
		return nil
	}
	a.log.InfoContext(ctx, "found a PostgreSQL to adopt", "pid", a.running().pid, "unit", unitOf(a.running().pid))
	return a.lookAtForeign(ctx)
}

// lookAtForeign reports what the files of a server tell that the agent cannot ask.
func (a *Agent) lookAtForeign(ctx context.Context) error {
	s := a.running()
	if s == nil {
		_, err := a.adopt(ctx) // it may have been restarted
		return err
	}
	d, err := a.inspect(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != s || !s.foreign {
		return nil
	}
	a.publishLocked(func(r *pgcluster.Report) {
		r.Process, r.Role, r.SystemID, r.Lineage = pgcluster.ProcessForeign, d.role, d.control.SystemID, d.lineage
		r.Position, r.PositionKnown = pgcluster.Position{Timeline: d.position.Timeline}, false
	})
	return nil
}

// expel stops a server that others have started on the agent's data. It always
// returns an error, which tells how to keep them from it.
func (a *Agent) expel(ctx context.Context) error {
	s := a.running()
	if s == nil {
		return errServerGone
	}
	how := "find out who did"
	if unit := unitOf(s.pid); unit != "" {
		how = "run: systemctl disable --now " + unit
	}
	if err := a.stop(ctx, fastStop); err != nil {
		return err
	}
	return fmt.Errorf("somebody else had started PostgreSQL on %s, stopped it; %s", a.p.data, how)
}

// takeOver makes the data directory the agent's own when the first order comes that
// says what to do with it. It may be repeated.
func (a *Agent) takeOver(ctx context.Context, o pgcluster.Order) error {
	if a.foreign() {
		if err := a.takeOverData(ctx, o); err != nil {
			return fmt.Errorf("adopt %s: %w", a.p.data, err)
		}
	}
	ad := a.state.get().Adopted
	if ad == nil || ad.Roles || o.Kind != pgcluster.OrderLead || a.running() != nil {
		return nil
	}
	if err := a.makeAdmin(ctx); err != nil {
		return fmt.Errorf("adopt %s: %w", a.p.data, err)
	}
	return nil
}

func (a *Agent) takeOverData(ctx context.Context, o pgcluster.Order) error {
	d, err := a.inspect(ctx)
	if err != nil {
		return err
	}
	switch {
	case o.Kind != pgcluster.OrderLead && o.Kind != pgcluster.OrderFollow:
		return errors.New("the first order must be to lead or to follow")
	case o.Kind == pgcluster.OrderLead && d.role != pgcluster.RolePrimary:
		return errors.New("a standby is adopted after its primary")
	case o.SystemID != "" && d.control.SystemID != o.SystemID:
		return fmt.Errorf("%w: system id %s, ordered %s", pgcluster.ErrWrongSystem, d.control.SystemID, o.SystemID)
	}
	ad := a.readForeign(ctx)
	ad.Roles = o.Kind == pgcluster.OrderFollow // they come from the primary
	a.step("stopping the PostgreSQL to adopt")
	if _, err := a.adopt(ctx); err != nil {
		return err
	}
	if s := a.running(); s != nil {
		if unit := unitOf(s.pid); unit != "" {
			a.log.WarnContext(ctx, "a unit manager may start PostgreSQL again; to keep it from that, disable the unit", "unit", unit)
		}
	}
	if err := a.stop(ctx, adoptStop); err != nil {
		return err
	}
	if err := a.killOrphans(ctx); err != nil {
		return err
	}
	if err := a.cleanAutoConf(); err != nil {
		return err
	}
	if err := a.leaveForClones(ad); err != nil {
		return err
	}
	_, err = a.save(func(s *saved) {
		s.Adopted = ad
		s.Settings = detached()
	})
	if err != nil {
		return err
	}
	a.log.InfoContext(ctx, "adopted a data directory", "data", a.p.data, "role", string(d.role),
		"settings", len(ad.Settings), "hba_rules", len(ad.HBA))
	return a.vet(ctx)
}

// cleanAutoConf takes the agent's settings out of postgresql.auto.conf, such as the
// primary_conninfo of a standby; the file as it was stays beside it.
func (a *Agent) cleanAutoConf() error {
	before, after, err := a.autoConfWithout(func(name, _ string) bool {
		return slices.Contains(a.ownedSettings(), name) || name == "wal_level"
	})
	if err != nil || after == before {
		return err
	}
	if err := a.owner.replaceDurably(a.p.autoConf()+".before-xpd", []byte(before)); err != nil {
		return err
	}
	return a.owner.replaceDurably(a.p.autoConf(), []byte(after))
}

// autoConfWithout returns what ALTER SYSTEM has written, and the same without the
// settings that drop tells. Who writes it makes sure that no server runs.
func (a *Agent) autoConfWithout(drop func(name, value string) bool) (before, after string, err error) {
	text, err := os.ReadFile(a.p.autoConf())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if name, value, ok := parseSetting(line); ok && drop(name, value) {
			continue
		}
		b.WriteString(line)
	}
	return string(text), b.String(), nil
}

func (a *Agent) isForeign() bool {
	s := a.running()
	return s != nil && s.foreign
}

// foreignEnded reports the end of a server that the agent has not taken over. Its
// owner may start it again at any moment.
func (a *Agent) foreignEnded(ctx context.Context, s *server) {
	d, err := a.inspect(ctx)
	a.refreshStopped(ctx, err == nil && !d.control.clean(), "")
	close(s.gone)
}
