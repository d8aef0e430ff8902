package agent

import (
	"context"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpd-platform/xpd/pgcluster"
)

const diskInterval = 2 * time.Second

// watchDisks reports how full the filesystems are until ctx ends, and bounds the server's
// log. It is a loop of its own: a filesystem that hangs holds up nothing else.
func (a *Agent) watchDisks(ctx context.Context) {
	for {
		disks := a.disks()
		a.publish(func(r *pgcluster.Report) { r.Disks = disks })
		if err := trimLog(a.owner, a.p.serverLog(), maxLog); err != nil {
			a.log.WarnContext(ctx, "PostgreSQL's log was cut", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(diskInterval):
		}
	}
}

// disks lists the filesystems that the node depends on. The WAL is listed if it has
// one of its own.
func (a *Agent) disks() []pgcluster.Disk {
	data := a.p.data
	if !exists(data) {
		data = filepath.Dir(data)
	}
	uses := []pgcluster.Disk{{Use: "data", Path: data}, {Use: "state", Path: filepath.Dir(a.p.state)}}
	// Follows a link, which is how initdb puts the WAL elsewhere.
	if wal, err := filepath.EvalSymlinks(a.p.wal()); err == nil && device(wal) != device(data) {
		uses = append(uses, pgcluster.Disk{Use: "wal", Path: wal})
	}
	var all []pgcluster.Disk
	for _, d := range uses {
		var s unix.Statfs_t
		if err := unix.Statfs(d.Path, &s); err != nil {
			continue // it says nothing, and the probes will
		}
		block := uint64(s.Bsize) //nolint:gosec // a size
		d.Free, d.Total = s.Bavail*block, s.Blocks*block
		all = append(all, d)
	}
	return all
}

// device tells filesystems apart.
func device(path string) uint64 {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return 0
	}
	return s.Dev
}
