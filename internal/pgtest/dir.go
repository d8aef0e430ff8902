package pgtest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Dir returns a new folder directly under os.TempDir() that PostgreSQL's OS user
// owns and that everybody can enter, unlike t.TempDir(). When the test ends, or
// its process dies, whatever process has its working directory inside is stopped
// (a PostgreSQL server has it in its data directory) and the folder is removed.
func Dir(tb testing.TB) string {
	tb.Helper()
	BinDir(tb)
	d, err := newWatchedDir()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.remove(); err != nil {
			tb.Error(err)
		}
	})
	return d.path
}

// watchScript waits until its standard input ends, which happens when the test
// process closes it or dies. An immediate shutdown (QUIT) lets PostgreSQL release
// its shared memory; KILL is for what does not listen.
const watchScript = `
dir=$1
inside() { find /proc/[0-9]*/cwd -maxdepth 0 \( -lname "$dir" -o -lname "$dir/*" \) 2>/dev/null | cut -d/ -f3; }
cat >/dev/null
i=0
while pids=$(inside); [ -n "$pids" ] && [ $i -lt 1000 ]; do
	if [ $i -lt 100 ]; then sig=QUIT; else sig=KILL; fi
	[ $((i % 50)) -eq 0 ] && kill -s CONT $pids 2>/dev/null
	[ $((i % 50)) -eq 0 ] && kill -s $sig $pids 2>/dev/null
	i=$((i + 1))
	sleep 0.02
done
rm -rf "$dir" 2>/dev/null || { sleep 1; rm -rf "$dir"; } # somebody who works elsewhere may have added to it
`

// watchedDir is a folder with its watcher.
type watchedDir struct {
	path    string
	watcher *exec.Cmd
	alive   io.Closer // the watcher's standard input; its end is the sign to clean up
}

func newWatchedDir() (*watchedDir, error) {
	cred, err := Credential()
	if err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp("", "xpdtest")
	if err != nil {
		return nil, err
	}
	d := &watchedDir{path: path, watcher: exec.Command("/bin/sh", "-c", watchScript, "pgtest-watch", path)} //nolint:noctx // must outlive every context of the test
	d.watcher.Dir = "/"
	// A Ctrl-C at the terminal must reach the tests only.
	d.watcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if d.alive, err = d.watcher.StdinPipe(); err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	if err := d.watcher.Start(); err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		return nil, err
	}
	if cred != nil {
		if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// remove stops what runs inside the folder and returns when it is gone.
func (d *watchedDir) remove() error {
	if err := d.alive.Close(); err != nil {
		return fmt.Errorf("remove %s: %w", d.path, err)
	}
	if err := d.watcher.Wait(); err != nil {
		return fmt.Errorf("remove %s: %w", d.path, err)
	}
	return nil
}
