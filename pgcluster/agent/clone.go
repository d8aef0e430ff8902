package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// clone copies the upstream's data directory and starts it. What was there before
// is moved aside until the copy streams. The WAL that is written meanwhile comes
// through the slot that the copy will stream through, so that none of it is missing.
func (a *Agent) clone(ctx context.Context, o pgcluster.Order) error {
	m, _ := a.member(o.Upstream) // checkOrder made sure
	a.step("cloning " + string(o.Upstream))
	if err := a.killOrphans(ctx); err != nil {
		return err
	}
	if err := a.roomFor(ctx, routeClone, o); err != nil {
		return err
	}
	temp := a.p.data + ".clone"
	if err := errors.Join(removeAll(temp), removeAll(a.p.half())); err != nil {
		return err
	}
	source := conninfo(a.toolSource(m, "xpd_clone", ReplicationRole))
	err := a.runTool(ctx, a.o.Secrets.Replication, "pg_basebackup", "-D", temp, "-d", source,
		"-X", "stream", "--slot="+pgcluster.SlotName(o.Stamp.Epoch, a.o.Node), "--checkpoint=fast", "--no-password")
	if err != nil {
		// A part of a copy is worth nothing, and its room may be needed.
		return a.copyFailed(ctx, o, errors.Join(err, removeAll(temp)))
	}
	if err := a.install(ctx, o, temp); err != nil {
		return err
	}
	// The copy was never a primary here.
	if _, err := a.save(func(s *saved) { s.Led, s.Followed, s.Cloned = 0, 0, max(s.Cloned, o.Clone) }); err != nil {
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
				return a.copyFailed(ctx, o, err)
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
	// What comes after the oldest are copies that never streamed.
	return a.removeOldData(1)
}

// discard deletes the data of a standby that is to be cloned, to make room. WAL that only
// this node has is saved before, as ever; and the upstream must be there.
func (a *Agent) discard(ctx context.Context, o pgcluster.Order) error {
	if !exists(a.p.data) {
		return nil
	}
	if err := a.checkUpstream(ctx, o); err != nil {
		return err
	}
	if err := a.stop(ctx, fastStop); err != nil {
		return err
	}
	a.step("deleting the data that is there")
	if err := a.killOrphans(ctx); err != nil {
		return err
	}
	if !exists(a.p.rewinding()) {
		if err := a.saveDiverged(ctx, o.Lineage); err != nil {
			return a.copyFailed(ctx, o, err)
		}
	}
	// Half a data directory must not pass for a whole one.
	if err := rename(a.p.data, fmt.Sprintf("%s.old-%d", a.p.data, time.Now().UnixNano())); err != nil {
		return fmt.Errorf("move old data directory aside: %w", err)
	}
	if err := a.removeOldData(0); err != nil {
		return err
	}
	a.refreshStopped(ctx, false, "")
	return nil
}

// removeOldData deletes what clone moved aside, but for the oldest.
func (a *Agent) removeOldData(keep int) error {
	old, err := filepath.Glob(a.p.data + ".old-*") // sorted
	if err != nil {
		return fmt.Errorf("find old data: %w", err)
	}
	for _, dir := range old[min(keep, len(old)):] {
		if err := removeAll(dir); err != nil {
			return err
		}
	}
	return nil
}
