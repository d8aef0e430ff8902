package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// TestAgent_F21_staleStandbyFirstUp has the power of a cluster cut and a standby
// that was away come back first. It says how little it has, which is what it is
// refused by, and follows later without a copy.
func TestAgent_F21_staleStandbyFirstUp(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 3, true)
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	n3.await("replay", caughtUp(n1))
	n3.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(1, 20)})
	before := inode(t, n3)
	exec(t, n1.service(), "INSERT INTO t VALUES (1)")
	floor := n1.Report().BarrierAt
	n2.await("what was acknowledged", caughtUp(n1))
	acknowledged := n2.Report().Position
	for _, n := range nodes {
		n.kill9()
		n.await("crash", pgcluster.Report.Down)
	}

	stale := n3.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 30)})
	if !stale.PositionKnown || stale.Position.LSN < floor || stale.Position.Compare(acknowledged) >= 0 {
		t.Errorf("the stale standby is at %v, the other was at %v", stale.Position, acknowledged)
	}
	n1.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 31)})
	lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 32), Sync: anyOf(1, "n2", "n3"), Barrier: true, Open: true}
	n1.submit(lead)
	n3.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 33), Upstream: "n1"})
	n1.do(lead)
	n3.await("replay", caughtUp(n1))
	if got := query[int](t, n3.service(), "SELECT count(*)::int FROM t"); got != 1 || !os.SameFile(before, inode(t, n3)) {
		t.Errorf("%d rows; or it was cloned", got)
	}
}

// interrupting is a shell script that kills PostgreSQL's program of the same name,
// the first time, as soon as it says what %[3]s is.
const interrupting = `#!/bin/sh
if [ -e '%[1]s.done' ]; then exec '%[2]s' "$@"; fi
mkfifo '%[1]s.done'
'%[2]s' --progress "$@" 2> '%[1]s.done' & pid=$!
while read -r line; do
	echo "$line"
	case "$line" in *'%[3]s'*) kill -9 $pid; exit 137;; esac
done < '%[1]s.done'
wait $pid
`

// interrupts returns a folder with PostgreSQL's programs, of which one is killed
// when it is run for the first time.
func interrupts(t *testing.T, program, at string) string {
	t.Helper()
	return wraps(t, program, func(path, program string) string { return fmt.Sprintf(interrupting, path, program, at) })
}

// wraps returns a folder with PostgreSQL's programs, of which one is a script: made for
// its own path and the program's.
func wraps(t *testing.T, program string, script func(path, program string) string) string {
	t.Helper()
	source, dir := pgtest.BinDir(t), pgtest.Dir(t)
	programs, err := os.ReadDir(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		path := filepath.Join(dir, p.Name())
		if p.Name() != program {
			err = os.Symlink(filepath.Join(source, p.Name()), path)
		} else {
			err = os.WriteFile(path, []byte(script(path, filepath.Join(source, p.Name()))), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func interrupted(t *testing.T, bin, program string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(bin, program+".done")); err != nil {
		t.Errorf("%s was not interrupted: %v", program, err)
	}
}

// TestAgent_F27_interruptedRewind has pg_rewind killed when it has begun to write.
func TestAgent_F27_interruptedRewind(t *testing.T) {
	t.Parallel()
	bin := interrupts(t, "pg_rewind", "need to copy")
	nodes := newNodesWith(t, 2, func(o *agent.Options) {
		o.BinDir = bin
		o.Settings["wal_keep_size"] = "128MB" // pg_rewind needs the last checkpoint that both have
	})
	initialize(nodes, false)
	n1, n2 := nodes[0], nodes[1]
	lineage := failedOver(t, n1, n2)
	before := inode(t, n1)
	n1.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 24), Upstream: "n2", Lineage: lineage})
	interrupted(t, bin, "pg_rewind")
	rejoined(t, n1, n2)
	if os.SameFile(before, inode(t, n1)) {
		t.Error("half a rewind was used")
	}
}

// pausing is a shell script that runs PostgreSQL's program of the same name, and then
// waits to be let go.
const pausing = `#!/bin/sh
'%[2]s' "$@" || exit
touch '%[1]s.done'
while [ ! -e '%[1]s.go' ]; do sleep 0.05; done
`

// TestAgent_rewindOutlastsItsUpstream has the upstream let nobody connect when a rewind
// is complete: the rewind is used all the same, once the upstream has said that it still
// leads.
func TestAgent_rewindOutlastsItsUpstream(t *testing.T) {
	t.Parallel()
	bin := wraps(t, "pg_rewind", func(path, program string) string { return fmt.Sprintf(pausing, path, program) })
	nodes := newNodesWith(t, 2, func(o *agent.Options) {
		o.BinDir = bin
		o.Settings["wal_keep_size"] = "128MB" // pg_rewind needs the last checkpoint that both have
	})
	initialize(nodes, false)
	n1, n2 := nodes[0], nodes[1]
	lineage := failedOver(t, n1, n2)
	before := inode(t, n1)
	follow := pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 24), Upstream: "n2", Lineage: lineage}
	n1.submit(follow)
	n1.await("a complete rewind", func(pgcluster.Report) bool {
		_, err := os.Stat(filepath.Join(bin, "pg_rewind.done"))
		return err == nil
	})
	pid, ok := n2.postmaster()
	if !ok {
		t.Fatal("no postmaster")
	}
	resume := suspend(t, pid)
	defer resume()
	if err := os.WriteFile(filepath.Join(bin, "pg_rewind.go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n1.await("a failed connection", func(r pgcluster.Report) bool {
		return strings.Contains(r.Order.Step+r.Order.Error, "connect to n2")
	})
	resume()
	n1.await("end of the order", func(r pgcluster.Report) bool { return r.Order.Stamp == follow.Stamp && r.Order.Done })
	rejoined(t, n1, n2)
	if !os.SameFile(before, inode(t, n1)) {
		t.Error("a complete rewind was thrown away")
	}
}

// TestAgent_F28_WALMissingForARewind has the old primary forget the WAL that
// pg_rewind would look for the last common checkpoint in.
func TestAgent_F28_WALMissingForARewind(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, false)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n1.admin(), "ALTER SYSTEM SET max_slot_wal_keep_size = '4MB'")
	exec(t, n1.admin(), "SELECT pg_reload_conf()")
	lineage := failedOver(t, n1, n2, func() { recycle(t, n1, n1) })
	before := inode(t, n1)
	n1.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 24), Upstream: "n2", Lineage: lineage})
	rejoined(t, n1, n2)
	if os.SameFile(before, inode(t, n1)) {
		t.Error("it was rewound without the WAL for it")
	}
}

// TestAgent_tellsWhereTheWALOfACrashEnds has an old primary that was killed, so that its
// control file does not say where its WAL ends.
func TestAgent_tellsWhereTheWALOfACrashEnds(t *testing.T) {
	t.Parallel()
	nodes := newNodesWith(t, 2, func(o *agent.Options) { o.Settings["wal_keep_size"] = "128MB" })
	initialize(nodes, false)
	n1, n2 := nodes[0], nodes[1]
	var end pgcluster.LSN
	lineage := failedOver(t, n1, n2, func() {
		admin := n1.connect(agent.AdminRole, n1.o.Secrets.Admin, agent.Database)
		exec(t, admin, "SELECT pg_logical_emit_message(false, 'xpd', repeat('x', 100000))")
		exec(t, admin, "SELECT pg_switch_wal()")
		exec(t, n1.service(), "INSERT INTO t SELECT generate_series(1, 20000)")
		var err error
		if end, err = pgcluster.ParseLSN(query[string](t, admin, "SELECT pg_current_wal_flush_lsn()::text")); err != nil {
			t.Fatal(err)
		}
		n1.kill9()
		n1.await("crash", pgcluster.Report.Down)
	})
	n1.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 24), Upstream: "n2", Lineage: lineage})
	rejoined(t, n1, n2)
	const meanwhile = 64 << 10 // heartbeats and the like, before it was killed
	if kept := n1.Report().SetAside; len(kept) != 1 || kept[0].To < end || kept[0].To > end+meanwhile {
		t.Errorf("set aside: %+v, want WAL to %v or a little more", kept, end)
	}
}

// failedOver makes n2 the primary of epoch 2, after n1 has gone its own way. It
// returns n2's lineage.
func failedOver(t *testing.T, n1, n2 *node, astray ...func()) pgcluster.Lineage {
	t.Helper()
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	n2.await("replay of the table", caughtUp(n1))
	n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
	diverge(t, n1)
	for _, more := range astray {
		more()
	}
	n1.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 21)})
	r := n2.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 22), Barrier: true, Open: true})
	exec(t, n2.service(), "INSERT INTO t VALUES (7)")
	return r.Lineage
}

// rejoined checks that n1 has n2's data and says what it set aside.
func rejoined(t *testing.T, n1, n2 *node) {
	t.Helper()
	r := n1.await("replay", caughtUp(n2))
	if got := query[int](t, n1.service(), "SELECT sum(v)::int FROM t"); got != 7 {
		t.Errorf("sum of t = %d, want 7", got)
	}
	if len(r.SetAside) != 1 {
		t.Fatalf("set aside: %+v, want one", r.SetAside)
	}
	kept := r.SetAside[0]
	files, err := filepath.Glob(filepath.Join(kept.Path, "0000*"))
	if err != nil || len(files) == 0 {
		t.Errorf("no WAL in %s: %v", kept.Path, err)
	}
	fork := n2.Report().Lineage[0]
	if kept.From != (pgcluster.Position{Timeline: fork.Parent, LSN: fork.At}) || kept.To <= kept.From.LSN ||
		kept.Bytes != int64(len(files))<<22 || kept.At.IsZero() {
		t.Errorf("set aside: %+v, of %d files; they parted at %v", kept, len(files), fork)
	}
	if left, _ := filepath.Glob(filepath.Join(n1.o.Dir, "pg", "*[.-]*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	n1.end(false)
	n1.start()
	n1.await("the same after a restart", func(r pgcluster.Report) bool { return r.Running() && len(r.SetAside) == 1 && r.SetAside[0] == kept })
}

// TestAgent_F29_interruptedClone has pg_basebackup killed while it copies.
func TestAgent_F29_interruptedClone(t *testing.T) {
	t.Parallel()
	bin := interrupts(t, "pg_basebackup", "kB (")
	nodes := newNodesWith(t, 2, func(o *agent.Options) { o.BinDir = bin })
	initialize(nodes, true)
	interrupted(t, bin, "pg_basebackup")
	if left, _ := filepath.Glob(filepath.Join(nodes[1].o.Dir, "pg", "data.*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestAgent_F29_diskFull has nodes whose disks have too little room for a rewind and
// for a clone. What they have stays as it is until there is room.
func TestAgent_F29_diskFull(t *testing.T) {
	t.Parallel()
	nodes := newNodesWith(t, 2, func(o *agent.Options) {
		o.Settings["wal_keep_size"] = "128MB"
		smallDisk(t, o.Dir)
	})
	initialize(nodes, false)
	n1, n2 := nodes[0], nodes[1]
	lineage := failedOver(t, n1, n2)
	before := inode(t, n1)

	for i, o := range []pgcluster.Order{
		{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 24), Upstream: "n2", Lineage: lineage, Reclone: true},
		{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 25), Upstream: "n2", Lineage: lineage},
	} {
		room := fill(t, n1.o.Dir)
		n1.submit(o)
		r := n1.await("advice", func(r pgcluster.Report) bool {
			return r.Order.Stamp == o.Stamp && strings.Contains(r.Order.Error, "make room")
		})
		if !os.SameFile(before, inode(t, n1)) || !r.Down() || r.Role != pgcluster.RolePrimary {
			t.Errorf("order %d: the data was touched: %+v", i, r)
		}
		if err := os.Remove(room); err != nil {
			t.Fatal(err)
		}
	}
	n1.await("end of the order", func(r pgcluster.Report) bool { return r.Order.Done })
	rejoined(t, n1, n2)
	if !os.SameFile(before, inode(t, n1)) {
		t.Error("it was cloned instead of rewound")
	}
}

// failing is a shell script that waits to be let go and dies, the first time, in place of
// PostgreSQL's program of the same name.
const failing = `#!/bin/sh
if [ -e '%[1]s.done' ]; then exec '%[2]s' "$@"; fi
touch '%[1]s.done'
while [ ! -e '%[1]s.go' ]; do sleep 0.05; done
exit 137
`

// TestAgent_F27_halfARewindFillsTheDisk has pg_rewind die where the data leave no room for
// a copy beside them. They are of no use any more, and go.
func TestAgent_F27_halfARewindFillsTheDisk(t *testing.T) {
	t.Parallel()
	bin := wraps(t, "pg_rewind", func(path, program string) string { return fmt.Sprintf(failing, path, program) })
	nodes := newNodesWith(t, 2, func(o *agent.Options) {
		o.BinDir = bin
		o.Settings["wal_keep_size"] = "128MB"
		smallDisk(t, o.Dir)
	})
	initialize(nodes, false)
	n1, n2 := nodes[0], nodes[1]
	lineage := failedOver(t, n1, n2)
	before := inode(t, n1)
	follow := pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 24), Upstream: "n2", Lineage: lineage}
	n1.submit(follow)
	n1.await("a rewind", func(pgcluster.Report) bool {
		_, err := os.Stat(filepath.Join(bin, "pg_rewind.done"))
		return err == nil
	})
	fill(t, filepath.Join(n1.o.Dir, "pg", "data"))
	// What a copy that was interrupted by a power cut leaves.
	half := filepath.Join(n1.o.Dir, "pg", "data.clone")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "pg_rewind.go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n1.await("end of the order", func(r pgcluster.Report) bool { return r.Order.Stamp == follow.Stamp && r.Order.Done })
	rejoined(t, n1, n2)
	if os.SameFile(before, inode(t, n1)) {
		t.Error("half a rewind was used")
	}
}

// smallDisk mounts one on a node's folder.
func smallDisk(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=400m,mode=755"); err != nil {
		t.Skipf("needs a small disk: mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill leaves 32 MB of a disk and returns the file that has the rest.
func fill(t *testing.T, dir string) string {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-32<<20); err != nil {
		t.Fatal(err)
	}
	return path
}
