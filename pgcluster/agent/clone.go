package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// clone copies the upstream's data directory and starts it. What was there before
// is moved aside until the copy streams.
func (a *Agent) clone(ctx context.Context, o pgcluster.Order) error {
	m, _ := a.o.member(o.Upstream) // checkOrder made sure
	a.step("cloning " + string(o.Upstream))
	if err := a.killOrphans(ctx); err != nil {
		return err
	}
	temp := filepath.Join(a.p.pg, "data.clone")
	if err := removeAll(temp); err != nil {
		return err
	}
	source := conninfo(map[string]string{
		"application_name": "xpd_clone",
		"connect_timeout":  "5",
		"gssencmode":       "disable",
		"host":             m.Host,
		"port":             strconv.Itoa(m.PGPort),
		"user":             ReplicationRole,
	})
	err := a.runTool(ctx, a.o.Secrets.Replication, "pg_basebackup", "-D", temp, "-d", source,
		"-X", "stream", "--no-slot", "--checkpoint=fast", "--no-password")
	if err != nil {
		return err
	}
	if err := a.install(ctx, o, temp); err != nil {
		return err
	}
	// The copy was never a primary here.
	if _, err := a.save(func(s *saved) { s.Led, s.Followed = 0, 0 }); err != nil {
		return err
	}
	a.refreshStopped(ctx, false, "")
	return a.startAttached(ctx, o)
}

// install puts a finished clone where the data directory is.
func (a *Agent) install(ctx context.Context, o pgcluster.Order, temp string) error {
	c, err := a.readControl(ctx, temp)
	if err != nil {
		return err
	}
	if o.SystemID != "" && c.SystemID != o.SystemID {
		return fmt.Errorf("%w: %s has system id %s, ordered %s", pgcluster.ErrWrongSystem, o.Upstream, c.SystemID, o.SystemID)
	}
	// Before the rename, so that no moment sees a copy that would start as a primary.
	if err := a.owner.replaceDurably(filepath.Join(temp, "standby.signal"), nil); err != nil {
		return fmt.Errorf("mark as standby: %w", err)
	}
	if exists(a.p.data) {
		if !exists(a.p.rewinding()) {
			if err := a.saveDiverged(ctx, o.Lineage); err != nil {
				return err
			}
		}
		old := fmt.Sprintf("%s.old-%d", a.p.data, time.Now().UnixNano())
		if err := rename(a.p.data, old); err != nil {
			return fmt.Errorf("move old data directory aside: %w", err)
		}
	}
	if err := rename(temp, a.p.data); err != nil {
		return fmt.Errorf("install data directory: %w", err)
	}
	if err := remove(a.p.rewinding()); err != nil {
		return fmt.Errorf("end rewind: %w", err)
	}
	return nil
}

// removeOldData deletes what clone moved aside.
func (a *Agent) removeOldData() error {
	old, err := filepath.Glob(a.p.data + ".old-*")
	if err != nil {
		return fmt.Errorf("find old data: %w", err)
	}
	for _, dir := range old {
		if err := removeAll(dir); err != nil {
			return err
		}
	}
	return nil
}
