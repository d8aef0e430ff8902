package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

const pollInterval = 5 * time.Millisecond

// template is a data directory fresh from initdb, made once for the process and
// copied for every server: a copy takes a tenth of the time.
//
//nolint:gochecknoglobals // once for each test process
var template = sync.OnceValues(func() (*watchedDir, error) {
	bin, err := binDir()
	if err != nil {
		return nil, err
	}
	d, err := newWatchedDir()
	if err != nil {
		return nil, err
	}
	return d, run(d.path, filepath.Join(bin, "initdb"), "--pgdata=template", "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions", "--data-checksums")
})

// run runs a program as PostgreSQL's user, inside dir so that dir's watcher knows
// of it.
func run(dir, program string, args ...string) error {
	cred, err := Credential()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, args...) //nolint:noctx // ended by the watcher of dir
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, bytes.TrimSpace(out))
	}
	return nil
}

// server is one PostgreSQL and its data directory.
type server struct {
	bin  string
	data string
	dsn  string // to its maintenance database
	pid  int    // of the postmaster; 0 while it is stopped
}

// newServer makes a data directory inside dir without starting it.
func newServer(dir, name, dsn string, settings ...string) (*server, error) {
	tmpl, err := template()
	if err != nil {
		return nil, err
	}
	bin, err := binDir()
	if err != nil {
		return nil, err
	}
	s := &server{bin: bin, data: filepath.Join(dir, name), dsn: dsn}
	if err := run(dir, "cp", "-a", filepath.Join(tmpl.path, "template"), s.data); err != nil {
		return nil, err
	}
	conf, err := os.OpenFile(filepath.Join(s.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	common := []string{
		"fsync = off", "full_page_writes = off", "shared_buffers = 32MB", "max_connections = 200",
		"max_wal_size = 256MB", "dynamic_shared_memory_type = mmap", // nothing in /dev/shm to leak
	}
	_, err = fmt.Fprintln(conf, strings.Join(append(common, settings...), "\n"))
	return s, errors.Join(err, conf.Close())
}

// start starts the server and returns once it answers queries.
func (s *server) start(ctx context.Context) error {
	cred, err := Credential()
	if err != nil {
		return err
	}
	logPath := s.data + ".log"
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data) //nolint:noctx // ended by the watcher
	cmd.Dir = s.data
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	err = cmd.Start()
	if err := errors.Join(err, log.Close()); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	s.pid = cmd.Process.Pid
	var last error
	err = poll(ctx, func() (bool, error) {
		if s.reaped() {
			return false, errors.New("postgres ended")
		}
		last = s.exec(ctx, "")
		return last == nil, nil
	})
	if err != nil {
		tail, _ := os.ReadFile(logPath)
		return fmt.Errorf("start postgres: %w: %w\n%s", err, last, tail)
	}
	return nil
}

// reaped reports whether the postmaster has ended. It collects the exit status,
// without a goroutine that waits for it: tests look for leaked ones.
func (s *server) reaped() bool {
	if s.pid == 0 {
		return true
	}
	pid, err := syscall.Wait4(s.pid, nil, syscall.WNOHANG, nil)
	if pid == s.pid || errors.Is(err, syscall.ECHILD) {
		s.pid = 0
	}
	return s.pid == 0
}

// stop asks the server to shut down cleanly, without waiting for its clients.
func (s *server) stop(ctx context.Context) error {
	if s.reaped() {
		return nil
	}
	if err := syscall.Kill(s.pid, syscall.SIGINT); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	return poll(ctx, func() (bool, error) { return s.reaped(), nil })
}

// kill9 ends the postmaster and all its processes with no chance to tell anybody.
func (s *server) kill9(ctx context.Context) error {
	if s.reaped() {
		return nil
	}
	segment, err := s.sharedMemory()
	if err != nil {
		return err
	}
	// The postmaster first: it must neither start nor signal others.
	if err := syscall.Kill(s.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill postgres: %w", err)
	}
	err = poll(ctx, func() (bool, error) {
		for _, pid := range s.processes() {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return false, fmt.Errorf("kill a backend: %w", err)
			}
		}
		return s.reaped() && len(s.processes()) == 0, nil
	})
	if err != nil {
		return err
	}
	// What the killed server could not release itself.
	if _, err := unix.SysvShmCtl(segment, unix.IPC_RMID, nil); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("remove shared memory: %w", err)
	}
	return nil
}

// processes returns the running processes of the server, known by their working
// directory.
func (s *server) processes() []int {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var pids []int
	for _, link := range links {
		if cwd, err := os.Readlink(link); err != nil || cwd != s.data {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sharedMemory returns the id of the System V segment that the server uses as
// its lock: the second number on line 7 of its pid file.
func (s *server) sharedMemory() (int, error) {
	b, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 7 {
		return 0, errors.New("postmaster.pid has no line for shared memory")
	}
	fields := strings.Fields(lines[6])
	if len(fields) != 2 {
		return 0, fmt.Errorf("postmaster.pid: shared memory %q: want key and id", lines[6])
	}
	return strconv.Atoi(fields[1])
}

// exec runs SQL in a connection of its own.
func (s *server) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql, args...)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// poll calls done until it returns true or an error, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
