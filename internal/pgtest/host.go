package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/xpd-platform/xpd/internal/osuser"
)

const debianBinDir = "/usr/lib/postgresql/15/bin"

// BinDir returns the folder of PostgreSQL 15's programs. Without them, or without
// an OS user that may run them, the test is skipped, or fails if CI=true.
func BinDir(tb testing.TB) string {
	tb.Helper()
	dir, err := binDir()
	if err == nil {
		_, err = Credential()
	}
	if err == nil {
		return dir
	}
	if os.Getenv("CI") == "true" {
		tb.Fatal(err)
	}
	tb.Skip(err)
	return ""
}

//nolint:gochecknoglobals // looked up once for each test process
var binDir = sync.OnceValues(func() (string, error) {
	for _, dir := range append([]string{debianBinDir}, filepath.SplitList(os.Getenv("PATH"))...) {
		out, err := exec.Command(filepath.Join(dir, "initdb"), "--version").Output()
		if err == nil && strings.Contains(string(out), ") 15.") {
			return dir, nil
		}
	}
	return "", errors.New("PostgreSQL 15 is not installed: run make deps, or apt-get install postgresql-15")
})

// OSUser returns the OS user that PostgreSQL must run as: "postgres" if this
// process is root, whom PostgreSQL refuses, else "" for the user of this process.
func OSUser() string {
	if os.Geteuid() == 0 {
		return "postgres"
	}
	return ""
}

// Credential returns the identity of OSUser for a child process, or nil if it is
// the one of this process.
func Credential() (*syscall.Credential, error) {
	cred, err := osuser.Credential(OSUser())
	if err != nil {
		return nil, fmt.Errorf("%w: run make deps", err)
	}
	return cred, nil
}

// Ports are handed out below the range that Linux takes for outgoing
// connections, so that none of those is in the way later, and below those of
// simulation/localcluster, which draws its own.
const (
	portMin    = 10000
	portMax    = 15000
	portStride = 89 // between processes whose ids are neighbours
)

//nolint:gochecknoglobals // no two tests of a process may get the same port
var (
	portsTaken atomic.Uint32
	portsBase  = sync.OnceValue(func() uint32 { return uint32(os.Getpid()) * portStride })
)

// FreePorts returns n TCP ports of loopback that nobody listens on. They belong to
// this process until it ends: no other test process gets them, also while what
// listens there is being restarted.
func FreePorts(tb testing.TB, n int) []int {
	tb.Helper()
	var ports []int
	for range portMax - portMin {
		if len(ports) == n {
			return ports
		}
		port := portMin + int((portsBase()+portsTaken.Add(1))%(portMax-portMin))
		if !claim(port) {
			continue
		}
		ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := ln.Close(); err != nil {
			tb.Fatal(err)
		}
		ports = append(ports, port)
	}
	tb.Fatalf("found %d free ports, want %d", len(ports), n)
	return nil
}

// claim takes a port for this process, by a socket with a name that only one process
// of a network namespace can have. The kernel takes it back when the process ends.
func claim(port int) bool {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: fmt.Sprintf("@xpd-pgtest-port-%d", port)}); err != nil {
		_ = syscall.Close(fd)
		return false
	}
	return true
}
