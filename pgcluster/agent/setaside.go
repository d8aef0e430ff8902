package agent

import (
	"cmp"
	"context"
	"encoding/json"
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

const (
	keepDiverged = 5 // folders of diverged WAL that stay if there is room
	aboutFile    = "about.json"
)

// about describes a folder of diverged WAL. It is the last file to be written there.
type about struct {
	pgcluster.SetAside

	Checkpoint pgcluster.LSN `json:"checkpoint"` // latest of the data directory: which of them it was
}

// saveDiverged copies the WAL that only this node has: from where its lineage and
// the upstream's part, in whole segments.
func (a *Agent) saveDiverged(ctx context.Context, upstream pgcluster.Lineage) error {
	d, err := a.inspect(ctx)
	if err != nil {
		return err
	}
	c := d.control
	local, err := a.readLineage(c.timeline())
	if err != nil {
		return err
	}
	from, parted := divergence(upstream, local)
	if !parted && len(local) > 0 {
		from.LSN = local[len(local)-1].At
	}
	f := about{SetAside: pgcluster.SetAside{At: time.Now().UTC(), From: from}, Checkpoint: c.Checkpoint}
	all, err := segments(a.p.wal())
	if err != nil {
		return err
	}
	f.To = a.endOf(d, local, all)
	all = slices.DeleteFunc(all, func(s segment) bool {
		past := s.timeline == from.Timeline && s.number >= segmentOf(s.timeline, from.LSN, s.size).number
		return (!past && !leadsBeyond(local, from.Timeline, s.timeline)) || !s.written(a.p.wal(), s.start())
	})
	if len(all) == 0 || a.savedBefore(f) {
		return nil
	}
	if err := a.makeRoomAside(ctx, uint64(len(all))*all[0].size+spare); err != nil {
		return err
	}
	f.Path = filepath.Join(a.p.diverged, nameAside(c.timeline(), f.SetAside, a.divergedFolders()))
	if err := a.saveSegments(ctx, all, f); err != nil {
		return fmt.Errorf("save diverged WAL: %w", err)
	}
	a.log.InfoContext(ctx, "saved diverged WAL", "folder", f.Path, "segments", len(all))
	if err := a.pruneDiverged(); err != nil {
		return err
	}
	a.reportSetAside()
	return nil
}

// endOf returns where the WAL of a data directory ends, or 0 if that is not known. After
// a crash, and on a standby, the control file does not say.
func (a *Agent) endOf(d stopped, local pgcluster.Lineage, all []segment) pgcluster.LSN {
	if d.known {
		return d.position.LSN
	}
	if len(all) == 0 {
		return 0
	}
	start := d.control.Checkpoint
	if t := d.control.timeline(); t != d.control.Timeline {
		if len(local) == 0 {
			return 0
		}
		start = local[len(local)-1].At // its first record
	}
	end, known := endOfWAL(a.p.wal(), d.control.timeline(), start, all[0].size)
	if !known {
		return 0
	}
	return end
}

func (a *Agent) saveSegments(ctx context.Context, all []segment, f about) error {
	if err := a.owner.mkdir(f.Path); err != nil {
		return err
	}
	for _, s := range all {
		n, err := a.copyDurably(ctx, filepath.Join(a.p.wal(), s.name()), filepath.Join(f.Path, s.name()))
		if err != nil {
			return errors.Join(err, removeAll(f.Path))
		}
		f.Bytes += n
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return a.owner.replaceDurably(filepath.Join(f.Path, aboutFile), append(b, '\n'))
}

// savedBefore reports whether the same WAL of the same data directory was set aside
// already, by an attempt that got no further.
func (a *Agent) savedBefore(now about) bool {
	return slices.ContainsFunc(a.divergedFolders(), func(f about) bool {
		return f.Checkpoint == now.Checkpoint && f.From == now.From && f.To == now.To
	})
}

// nameAside returns a folder's name. It ends in a number that is above those of all that
// are there, because a clock may step back; the time before it is for people.
func nameAside(t pgcluster.Timeline, s pgcluster.SetAside, there []about) string {
	var last uint64
	for _, f := range there {
		last = max(last, f.number())
	}
	return fmt.Sprintf("%d-%s-%s-%d", t, strings.ReplaceAll(s.From.LSN.String(), "/", "_"), s.At.Format("20060102T150405Z"), last+1)
}

// number returns what the folder's name ends in, or 0 if an xpd made it that had no
// numbers yet: the third and last part of its names was a time.
func (f about) number() uint64 {
	parts := strings.Split(filepath.Base(f.Path), "-")
	if len(parts) != 4 {
		return 0
	}
	n, err := strconv.ParseUint(parts[3], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// whole reports whether everything was written.
func (f about) whole() bool { return !f.At.IsZero() }

// divergedFolders describes the folders of diverged WAL, oldest first. Half a folder
// is the oldest of all, because it is the first to go.
func (a *Agent) divergedFolders() []about {
	entries, err := os.ReadDir(a.p.diverged)
	if err != nil {
		return nil // it is made when the agent begins
	}
	var all []about
	for _, e := range entries {
		path := filepath.Join(a.p.diverged, e.Name())
		var f about
		b, err := os.ReadFile(filepath.Join(path, aboutFile))
		if err == nil {
			err = json.Unmarshal(b, &f)
		}
		if err != nil {
			f = about{}
		}
		f.Path = path
		all = append(all, f)
	}
	slices.SortFunc(all, older)
	return all
}

// older compares by age. Time is of use only for folders that have no number.
func older(x, y about) int {
	switch {
	case x.whole() && !y.whole():
		return 1
	case !x.whole() && y.whole():
		return -1
	}
	return cmp.Or(cmp.Compare(x.number(), y.number()), x.At.Compare(y.At), strings.Compare(x.Path, y.Path))
}

// reportSetAside reports what is kept.
func (a *Agent) reportSetAside() {
	var kept []pgcluster.SetAside
	for _, f := range a.divergedFolders() {
		if f.whole() {
			kept = append(kept, f.SetAside)
		}
	}
	a.publish(func(r *pgcluster.Report) { r.SetAside = kept })
}

func (a *Agent) pruneDiverged() error {
	all := a.divergedFolders()
	for _, f := range all[:max(0, len(all)-keepDiverged)] {
		if err := removeAll(f.Path); err != nil {
			return err
		}
	}
	return nil
}

// makeRoomAside deletes the oldest folders, as many as it takes to have so many bytes free;
// none if all of them are too few. The node does not come back before its WAL is saved.
func (a *Agent) makeRoomAside(ctx context.Context, need uint64) error {
	free, err := freeIn(a.p.diverged)
	if err != nil || free >= need {
		return err
	}
	all := a.divergedFolders()
	for len(all) > 0 && !all[0].whole() {
		if err := removeAll(all[0].Path); err != nil {
			return err
		}
		all = all[1:]
	}
	if free, err = freeIn(a.p.diverged); err != nil {
		return err
	}
	n := 0
	for ; n < len(all) && free < need; n++ {
		free += uint64(max(0, all[n].Bytes))
	}
	if free < need {
		return nil
	}
	for _, f := range all[:n] {
		a.log.WarnContext(ctx, "no room to save diverged WAL, deleting what was saved before it", "folder", f.Path, "saved", f.At)
		if err := removeAll(f.Path); err != nil {
			return err
		}
	}
	return nil
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

// copyDurably returns how many bytes it has copied.
func (a *Agent) copyDurably(ctx context.Context, from, to string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	src, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(dst, src)
	return n, errors.Join(err, dst.Sync(), dst.Close(), a.owner.take(to))
}
