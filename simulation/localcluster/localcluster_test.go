package localcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// openFolder returns a folder that everybody can enter.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "localcluster") //nolint:usetesting // t.TempDir() is private to this user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fake is a cluster of one node whose xpd is a shell script.
func fake(t *testing.T, script string) *Cluster {
	t.Helper()
	bin := pgtest.BinDir(t) // its OS user is needed too
	dir := openFolder(t)
	program := filepath.Join(dir, "xpd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := Open(Options{Dir: filepath.Join(dir, "c"), Binary: program, Nodes: 1, PGBin: bin, PGUser: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGuard_tellsOfADeath(t *testing.T) {
	t.Parallel()
	c := fake(t, "echo out of luck; exit 3")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	guarded, release := c.Guard(ctx)
	defer release()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	<-guarded.Done()
	death, ok := errors.AsType[*DeathError](context.Cause(guarded))
	if !ok || death.Node != "n1" || death.Log != "out of luck\n" || !strings.Contains(death.Error(), "exit status 3") {
		t.Errorf("cause = %v, want the death of n1 with what it logged and how it ended", context.Cause(guarded))
	}
	if death != nil && !strings.Contains(death.Command, " run --node n1 --cluster n1=127.0.0.1:") {
		t.Errorf("it was started by %q, want what starts it again", death.Command)
	}
	if err := c.Stop(ctx); err != nil {
		t.Errorf("Stop() = %v, though the death was told", err)
	}
}

func TestStop_isNoDeath(t *testing.T) {
	t.Parallel()
	c := fake(t, `sleep 3600 & trap "kill $!; echo bye; exit 0" TERM; echo up; wait`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	guarded, release := c.Guard(ctx)
	defer release()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	awaitLog(ctx, t, c, "up\n")
	if err := c.StartNode("n1"); err == nil {
		t.Error("StartNode() of a running node succeeded")
	}
	if err := c.Stop(ctx); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	awaitLog(ctx, t, c, "up\nbye\n")
	if err := context.Cause(guarded); err != nil {
		t.Errorf("an ordered stop counts as %v", err)
	}
}

func awaitLog(ctx context.Context, t *testing.T, c *Cluster, want string) {
	t.Helper()
	err := poll(ctx, killInterval, func() error {
		if got := c.Log("n1"); got != want {
			return fmt.Errorf("log is %q, want %q", got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStop_forcesWhatDoesNotListen(t *testing.T) {
	t.Parallel()
	c := fake(t, `trap '' TERM; echo up; exec sleep 3600`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	awaitLog(ctx, t, c, "up\n")
	hurry, cancelHurry := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancelHurry()
	if err := c.Stop(hurry); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop() = %v, want that it ran out of time", err)
	}
	if c.nodes["n1"].xpd.running() {
		t.Error("xpd of n1 still runs")
	}
}

// A stale pid file may name any process of this machine.
func TestKillPostgres_killsNobodyElse(t *testing.T) {
	t.Parallel()
	c := fake(t, "exit 0")
	data := c.nodes["n1"].data()
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.KillPostgres("n1"); !errors.Is(err, errNotRunning) {
		t.Errorf("KillPostgres() without a server = %v, want errNotRunning", err)
	}
	for _, content := range []string{strconv.Itoa(os.Getpid()) + "\n" + data + "\n", "1\n", "nonsense"} {
		if err := os.WriteFile(filepath.Join(data, "postmaster.pid"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.KillPostgres("n1"); !errors.Is(err, errNotRunning) {
			t.Errorf("KillPostgres() with a pid file %q = %v, want errNotRunning", content, err)
		}
	}
	if slices.Contains(c.processes("/"), os.Getpid()) {
		t.Error("this process counts as one of the cluster")
	}
	if err := c.KillPostgres("n9"); err == nil {
		t.Error("KillPostgres() of an unknown node succeeded")
	}
}

func TestStart_namesThePortInUse(t *testing.T) {
	t.Parallel()
	c := fake(t, "exit 0")
	port := c.Members()[0].RaftPort
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = c.Start()
	if err := c.lock.Close(); err != nil {
		t.Fatal(err)
	}
	o := c.o
	o.BasePort = 9701
	if again, err := Open(o); err != nil || again.Members()[0].HTTPPort != 9701 {
		t.Errorf("Open() with other ports after a start that failed = %v", err)
	}
	taken, ok := errors.AsType[*PortError](err)
	if !ok || taken.Port != port || taken.Node != "n1" || taken.Use != "Raft" || !strings.Contains(err.Error(), "--base-port") {
		t.Errorf("Start() = %v, want a PortError for port %d that names the flag", err, port)
	}
}

func TestOpen_keepsWhatAUsedFolderHas(t *testing.T) {
	t.Parallel()
	bin := pgtest.BinDir(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: filepath.Join(openFolder(t), "c"), Binary: program, Nodes: 3, BasePort: 9301, PGBin: bin, PGUser: "postgres"}
	first, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(filepath.Join(first.Dir(), secretFile))
	if err != nil || len(secret) < 43 {
		t.Fatalf("secret %q (%v), want 32 random bytes as text", secret, err)
	}
	if info, err := os.Stat(filepath.Join(first.Dir(), secretFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secret has mode %v (%v), want 0600", info.Mode(), err)
	}
	want := "n1=127.0.0.1:9301:9401:6501,n2=127.0.0.1:9302:9402:6502,n3=127.0.0.1:9303:9403:6503"
	if got := pgcluster.FormatMembers(first.Members()); got != want {
		t.Errorf("members %s, want %s", got, want)
	}
	if err := first.recordMembers(); err != nil { // as Start does
		t.Fatal(err)
	}
	if got := strings.Join(first.URLs(), " "); got != "http://127.0.0.1:9301 http://127.0.0.1:9302 http://127.0.0.1:9303" {
		t.Errorf("URLs() = %s", got)
	}
	o.BasePort, o.Nodes = 0, 5
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("Open() of a folder that is open = %v, want that another process holds it", err)
	}
	stop(t, first)
	again, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := pgcluster.FormatMembers(again.Members()); got != want {
		t.Errorf("a used folder has members %s, want still %s", got, want)
	}
	if now, err := os.ReadFile(filepath.Join(again.Dir(), secretFile)); err != nil || string(now) != string(secret) {
		t.Errorf("the secret changed (%v)", err)
	}
	stop(t, again)
	o.BasePort = 9401
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "--base-port 9301") {
		t.Errorf("Open() with other ports = %v, want an error that says which it has", err)
	}
}

func TestOpen_onHosts(t *testing.T) {
	t.Parallel()
	bin := pgtest.BinDir(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(Options{
		Dir: filepath.Join(openFolder(t), "c"), Binary: program, PGBin: bin, PGUser: "postgres",
		Hosts: []Host{{Address: "192.0.2.1", Command: []string{"on", "first"}}, {Address: "192.0.2.2", Command: []string{"on", "second"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, c)
	want := "n1=192.0.2.1:8300:8400:5432,n2=192.0.2.2:8300:8400:5432"
	if got := pgcluster.FormatMembers(c.Members()); got != want {
		t.Errorf("members %s, want %s", got, want)
	}
	if err := c.checkPorts(); err != nil {
		t.Errorf("ports of hosts of their own: %v", err)
	}
	args := c.command(c.nodes["n2"]).Args
	if !slices.Equal(args[:4], []string{"on", "second", program, "run"}) || !slices.Contains(args, "--unprotected") {
		t.Errorf("n2 is started by %q, want its host's command first, and --unprotected", args)
	}
}

func stop(t *testing.T, c *Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Errorf("Stop() = %v", err)
	}
}

func TestPorts_refusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ base, nodes int }{{8301, 0}, {8301, maxNodes + 1}, {3000, 3}, {65500, 3}, {-1, 3}} {
		if m, err := Ports(tt.base, tt.nodes); err == nil {
			t.Errorf("Ports(%d, %d) = %v, want an error", tt.base, tt.nodes, m)
		}
	}
}

func TestBlockedBy(t *testing.T) { //nolint:tparallel // the cases share a folder
	t.Parallel()
	dir := openFolder(t)
	inner := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	tests := []struct {
		name string
		mode os.FileMode
		who  identity
		want bool
	}{
		{"everybody may", 0o755, identity{true, uid + 1, gid + 1}, false},
		{"only the owner may, and it is somebody else", 0o700, identity{true, uid + 1, gid + 1}, true},
		{"only the owner may, and it is the one", 0o700, identity{true, uid, gid + 1}, false},
		{"the group may", 0o710, identity{true, uid + 1, gid}, false},
		{"the group may not, though others may", 0o701, identity{true, uid + 1, gid}, true},
		{"this process itself, who looks after itself", 0o700, identity{}, false},
	}
	for _, tt := range tests { //nolint:paralleltest // they share a folder
		t.Run(tt.name, func(t *testing.T) {
			if err := os.Chmod(filepath.Join(dir, "a"), tt.mode); err != nil {
				t.Fatal(err)
			}
			want := ""
			if tt.want {
				want = filepath.Join(dir, "a")
			}
			if got := tt.who.blockedBy(inner); got != want {
				t.Errorf("blockedBy() = %q, want %q", got, want)
			}
		})
	}
}

func TestPrepareDir_belowAPrivateFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs PostgreSQL as somebody else")
	}
	pgtest.BinDir(t)
	root := openFolder(t)
	private := filepath.Join(root, "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(root, "elsewhere")
	dir := filepath.Join(private, ".local")
	got, err := prepareDir(dir, "postgres", elsewhere)
	if err != nil || filepath.Dir(got) != elsewhere {
		t.Fatalf("prepareDir() = %q, %v; want a folder in %s", got, err, elsewhere)
	}
	if again, err := prepareDir(dir, "postgres", elsewhere); err != nil || again != got {
		t.Errorf("prepareDir() again = %q, %v; want %q", again, err, got)
	}
	solid := filepath.Join(private, "solid")
	if err := os.Mkdir(solid, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := prepareDir(solid, "postgres", elsewhere); err == nil || !strings.Contains(err.Error(), "cannot enter "+private) {
		t.Errorf("prepareDir() of a real folder there = %v, want an error that names %s", err, private)
	}
	plain := filepath.Join(root, "plain")
	if got, err := prepareDir(plain, "postgres", elsewhere); err != nil || got != plain {
		t.Errorf("prepareDir() of a reachable folder = %q, %v; want itself", got, err)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	var all strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&all, "line %d\n", i)
	}
	if err := os.WriteFile(path, []byte(all.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	got := tail(path)
	if len(got) > logTail || !strings.HasPrefix(got, "line ") || !strings.HasSuffix(all.String(), got) {
		t.Errorf("tail() = %d bytes that begin with %.20q, want whole lines from the end", len(got), got)
	}
	if got := tail(path + "-that-is-missing"); got != "" {
		t.Errorf("tail() of no file = %q", got)
	}
}

func TestQuoteDSN(t *testing.T) {
	t.Parallel()
	if got, want := quoteDSN(`/a b/it's\here`), `'/a b/it\'s\\here'`; got != want {
		t.Errorf("quoteDSN() = %s, want %s", got, want)
	}
}
