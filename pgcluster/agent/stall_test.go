package agent_test

import (
	"context"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// TestAgent_F3_stoppedPostmaster has a postmaster that is stopped by a signal: the
// sessions that are there go on, and nobody else gets in.
func TestAgent_F3_stoppedPostmaster(t *testing.T) {
	t.Parallel()
	n1 := initialized(t, 1, false)[0]
	n1.await("no complaint", func(r pgcluster.Report) bool { return r.ConnectStalled == 0 && r.WriteStalled == 0 })
	conn := n1.service()
	pid, _ := n1.postmaster()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT) //nolint:errcheck // it may have ended
	var seq uint64
	var since time.Duration
	n1.await("nobody gets in, though its sessions work, without news for an age that grows", func(r pgcluster.Report) bool {
		if r.Seq != seq {
			seq, since = r.Seq, r.ConnectStalled
		}
		return r.ConnectStalled >= since+2*time.Second && r.AnsweredAgo < time.Second && r.WriteStalled == 0 && r.Running()
	})
	exec(t, conn, "SELECT 1")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	n1.await("somebody gets in", func(r pgcluster.Report) bool { return r.ConnectStalled == 0 })
}

// TestAgent_F43_full has a server that refuses its agent, too: it works, for whoever is in.
func TestAgent_F43_full(t *testing.T) {
	t.Parallel()
	nodes := newNodesWith(t, 1, func(o *agent.Options) {
		o.Settings["max_connections"], o.Settings["superuser_reserved_connections"] = "20", "5"
	})
	initialize(nodes, false)
	n := nodes[0]
	refused := 0 // of those who are not the agent
	n.await("a full server that is said to work after two knocks of the agent were refused", func(r pgcluster.Report) bool {
		for { // whatever the agent has let go of, too
			conn, err := pgx.Connect(t.Context(), n.dsn(agent.AdminRole, n.o.Secrets.Admin, "postgres"))
			if err != nil {
				refused++
				break
			}
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
		}
		log, err := os.ReadFile(filepath.Join(n.o.Dir, "pg", "log", "postgres.log"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(log), "too many clients already")-refused >= 2 && r.ConnectStalled == 0 && r.AnsweredAgo < time.Second
	})
}

// TestAgent_F31_stalledDisk has a disk that takes writes and never says that they
// are safe, first a standby's, then the primary's.
func TestAgent_F31_stalledDisk(t *testing.T) {
	t.Parallel()
	bin, switches := slowPostgres(t), map[pgcluster.NodeID]string{}
	nodes := newNodesWith(t, 2, func(o *agent.Options) {
		o.BinDir = filepath.Join(bin, string(o.Node))
		switches[o.Node] = filepath.Join(bin, string(o.Node), "stalled")
	})
	initialize(nodes, true)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n1.service(), "CREATE TABLE t (v int)")

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stall := func(n *node) func() {
		if err := os.WriteFile(switches[n.m.ID], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return func() { _ = os.Remove(switches[n.m.ID]) }
	}
	resume := stall(n2)
	defer resume()
	conn, committed := n1.service(), make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "INSERT INTO t VALUES (1)")
		committed <- err
	}()
	waiter(t, n1.admin(), 0)
	stalls := func(r pgcluster.Report) bool {
		return r.WriteStalled >= 2*time.Second && r.Running() && r.AnsweredAgo < time.Second // the report is not held up
	}
	n2.await("the standby's stall", stalls)
	n1.await("a primary whose disk is well, though a commit waits for a standby", func(r pgcluster.Report) bool { return r.WriteStalled == 0 })
	resume()
	n2.await("the standby's recovery", func(r pgcluster.Report) bool { return r.WriteStalled == 0 })
	if err := <-committed; err != nil {
		t.Errorf("a commit that waited: %v", err)
	}

	resume = stall(n1)
	defer resume()
	n1.await("the primary's stall", stalls)
	resume()
	n1.await("the primary's recovery", func(r pgcluster.Report) bool { return r.WriteStalled == 0 })
	exec(t, n1.service(), "INSERT INTO t VALUES (2)")
}

const stallSource = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

int fdatasync(int fd)
{
	while (access(STALLED, F_OK) == 0)
		usleep(5000);
	return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
`

// slowPostgres returns a folder of folders, one for each of two nodes, with
// PostgreSQL's programs. Their server's flushes of WAL last as long as there is a
// file "stalled" beside them.
func slowPostgres(t *testing.T) string {
	t.Helper()
	gcc, err := osexec.LookPath("gcc")
	if err != nil {
		t.Skip("F31 needs gcc to make a library that stalls fdatasync")
	}
	source, top := pgtest.BinDir(t), pgtest.Dir(t)
	for _, id := range []string{"n1", "n2"} {
		dir := filepath.Join(top, id)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		library := filepath.Join(dir, "stall.so")
		cmd := osexec.CommandContext(t.Context(), gcc, "-shared", "-fPIC", "-o", library, "-x", "c", "-",
			"-DSTALLED=\""+filepath.Join(dir, "stalled")+"\"", "-ldl")
		cmd.Stdin = strings.NewReader(stallSource)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v: %s", err, out)
		}
		programs, err := os.ReadDir(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range programs {
			if p.Name() == "postgres" {
				continue
			}
			if err := os.Symlink(filepath.Join(source, p.Name()), filepath.Join(dir, p.Name())); err != nil {
				t.Fatal(err)
			}
		}
		script := "#!/bin/sh\nLD_PRELOAD='" + library + "' exec '" + filepath.Join(source, "postgres") + "' \"$@\"\n"
		if err := os.WriteFile(filepath.Join(dir, "postgres"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return top
}
