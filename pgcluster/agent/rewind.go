package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// keepDiverged is how many folders of diverged WAL stay.
const keepDiverged = 5

// rewind makes a data directory that went its own way a beginning of the
// upstream's, after saving the WAL that this drops. If that cannot be done, it
// clones.
func (a *Agent) rewind(ctx context.Context, o pgcluster.Order) error {
	a.step("rewinding to " + string(o.Upstream))
	if err := a.killOrphans(ctx); err != nil {
		return err
	}
	// pg_rewind believes the control file, which names the new timeline only after
	// a checkpoint.
	if err := a.checkpointOn(ctx, o.Upstream); err != nil {
		return err
	}
	if err := a.saveDiverged(ctx, o.Lineage); err != nil {
		return err
	}
	if err := a.owner.replaceDurably(a.p.rewinding(), nil); err != nil {
		return fmt.Errorf("begin rewind: %w", err)
	}
	if err := a.writeConf(a.state.get().Settings); err != nil {
		return err
	}
	m, _ := a.o.member(o.Upstream) // checkOrder made sure
	source := conninfo(map[string]string{
		"application_name": "xpd_rewind",
		"connect_timeout":  "5",
		"dbname":           "postgres",
		"gssencmode":       "disable",
		"host":             m.Host,
		"port":             strconv.Itoa(m.PGPort),
		"user":             AdminRole,
	})
	err := a.runTool(ctx, a.o.Secrets.Admin, "pg_rewind", "--target-pgdata="+a.p.data,
		"--source-server="+source, "--config-file="+a.p.config())
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		a.log.WarnContext(ctx, "rewind failed, cloning instead", "error", err)
		return a.clone(ctx, o)
	}
	if err := a.markStandby(); err != nil {
		return err
	}
	if err := remove(a.p.rewinding()); err != nil {
		return fmt.Errorf("end rewind: %w", err)
	}
	a.refreshStopped(ctx, false, "")
	return a.startAttached(ctx, o)
}

func (a *Agent) checkpointOn(ctx context.Context, id pgcluster.NodeID) error {
	conn, err := a.connectTo(ctx, id)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint on %s: %w", id, err)
	}
	return nil
}

// saveDiverged copies the WAL that only this node has: from where its lineage and
// the upstream's part, in whole segments.
func (a *Agent) saveDiverged(ctx context.Context, upstream pgcluster.Lineage) error {
	c, err := a.readControl(ctx, a.p.data)
	if err != nil {
		return err
	}
	local, err := a.readLineage(c.timeline())
	if err != nil {
		return err
	}
	from, parted := divergence(upstream, local)
	if !parted && len(local) > 0 {
		from.LSN = local[len(local)-1].At
	}
	all, err := segments(a.p.wal())
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s segment) bool {
		past := s.timeline == from.Timeline && s.number >= segmentOf(s.timeline, from.LSN).number
		return (!past && !leadsBeyond(local, from.Timeline, s.timeline)) || !s.written(a.p.wal(), s.start())
	})
	if len(all) == 0 {
		return nil
	}
	name := fmt.Sprintf("%d-%s-%d", c.timeline(), strings.ReplaceAll(from.LSN.String(), "/", "_"), time.Now().Unix())
	dir := filepath.Join(a.p.diverged, name)
	if err := a.owner.mkdir(dir); err != nil {
		return fmt.Errorf("save diverged WAL: %w", err)
	}
	for _, s := range all {
		if err := a.copyDurably(ctx, filepath.Join(a.p.wal(), s.name()), filepath.Join(dir, s.name())); err != nil {
			return fmt.Errorf("save diverged WAL: %w", err)
		}
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("save diverged WAL: %w", err)
	}
	a.log.InfoContext(ctx, "saved diverged WAL", "folder", dir, "segments", len(all))
	return a.pruneDiverged()
}

// leadsBeyond reports whether t comes after common on the local lineage.
func leadsBeyond(local pgcluster.Lineage, common, t pgcluster.Timeline) bool {
	beyond := false
	for _, s := range local {
		beyond = beyond || s.Parent == common
		if beyond && s.Child == t {
			return true
		}
	}
	return false
}

func (a *Agent) copyDurably(ctx context.Context, from, to string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close(), a.owner.take(to))
}

func (a *Agent) pruneDiverged() error {
	entries, err := os.ReadDir(a.p.diverged)
	if err != nil {
		return fmt.Errorf("prune diverged WAL: %w", err)
	}
	slices.SortFunc(entries, func(x, y os.DirEntry) int { return cmp.Compare(savedAt(y.Name()), savedAt(x.Name())) })
	for _, e := range entries[min(keepDiverged, len(entries)):] {
		if err := removeAll(filepath.Join(a.p.diverged, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// savedAt returns the time in the name of a folder of diverged WAL.
func savedAt(name string) int64 {
	t, err := strconv.ParseInt(name[strings.LastIndexByte(name, '-')+1:], 10, 64)
	if err != nil {
		return 0
	}
	return t
}
