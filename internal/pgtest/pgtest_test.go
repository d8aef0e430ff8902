package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/internal/pgtest"
)

func TestNew_givesEveryTestItsOwnDatabase(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := pgtest.New(t), pgtest.New(t)
	if _, err := a.Exec(ctx, "CREATE TABLE only_here (x int)"); err != nil {
		t.Fatal(err)
	}
	var there bool
	if err := b.QueryRow(ctx, "SELECT to_regclass('only_here') IS NOT NULL").Scan(&there); err != nil {
		t.Fatal(err)
	}
	if there {
		t.Error("a table of one test is seen by another")
	}
	var version int
	if err := a.QueryRow(ctx, "SELECT current_setting('server_version_num')::int / 10000").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if want := 15; version != want {
		t.Errorf("server version = %d, want %d", version, want)
	}
}

func TestCluster_survivesItsPrimary(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 3)
	c.SetSync(0, "ANY 1 (n2, n3)")
	c.Exec(0, "CREATE TABLE kept (x int)")
	c.Exec(0, "INSERT INTO kept VALUES (1)")
	c.Stop(2) // so that n2 has what was acknowledged
	c.Exec(0, "INSERT INTO kept VALUES (2)")
	c.Kill9(0)
	c.Promote(1)
	c.Start(2)
	c.Follow(2, 1)
	c.SetSync(1, "ANY 1 (n3)")
	c.Exec(1, "INSERT INTO kept VALUES (3)")

	conn, err := pgx.Connect(t.Context(), c.DSN(1))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var sum int
	if err := conn.QueryRow(t.Context(), "SELECT sum(x) FROM kept").Scan(&sum); err != nil {
		t.Fatal(err)
	}
	if want := 6; sum != want {
		t.Errorf("sum of rows = %d, want %d", sum, want)
	}
}

func TestFreePorts_areDistinct(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for _, p := range append(pgtest.FreePorts(t, 5), pgtest.FreePorts(t, 5)...) {
		if seen[p] {
			t.Errorf("port %d was given twice", p)
		}
		seen[p] = true
	}
}

const childEnv = "XPD_PGTEST_CHILD"

// TestChild is not a test: it is what TestNothingOutlivesAKilledTestProcess kills.
func TestChild(t *testing.T) { //nolint:paralleltest // alone in its process
	if os.Getenv(childEnv) == "" {
		t.Skip("run by TestNothingOutlivesAKilledTestProcess only")
	}
	pool := pgtest.New(t)
	var data string
	if err := pool.QueryRow(t.Context(), "SELECT current_setting('data_directory')").Scan(&data); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, childEnv, pgtest.Dir(t))
	fmt.Fprintln(os.Stdout, childEnv, data)
	<-t.Context().Done()
}

func TestNothingOutlivesAKilledTestProcess(t *testing.T) {
	t.Parallel()
	pgtest.BinDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var folders []string
	for lines := bufio.NewScanner(out); len(folders) < 2 && lines.Scan(); {
		if folder, ok := strings.CutPrefix(lines.Text(), childEnv+" "); ok {
			folders = append(folders, folder)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	if got, want := len(folders), 2; got != want {
		t.Fatalf("the child named %d folders, want %d", got, want)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, folder := range folders {
		for {
			// Its watcher removes a folder after everything in it has ended.
			if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
				break
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s is still there", folder)
			case <-tick.C:
			}
		}
	}
}
