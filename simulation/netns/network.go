package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	namePrefix = "xpd" // of all that is made, before the id of the process
	maxHosts   = 50
	netnsDir   = "/run/netns"
)

// programs are what a Network is made with.
var programs = []string{"ip", "iptables", "nsenter"} //nolint:gochecknoglobals // a constant list

// Probe returns why this machine cannot have a Network, or nil.
func Probe(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("network namespaces need %s: run make deps, or apt-get install iproute2 iptables", p)
		}
	}
	// A throw-away namespace shows whether namespaces and their packet filters work.
	if out, err := exec.CommandContext(ctx, "unshare", "--net", "iptables", "-w", "-S", "INPUT").CombinedOutput(); err != nil {
		return fmt.Errorf("no packet filter in a network namespace: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Host is a network namespace.
type Host struct {
	ID      pgcluster.NodeID
	Address string

	netns string // its name
	port  string // of the bridge, at the other end of its link
}

// Command returns what to put before a program and its arguments to run it on h.
func (h Host) Command() []string {
	return []string{"nsenter", "--net=" + filepath.Join(netnsDir, h.netns), "--"}
}

// Network is some hosts that reach each other and this process. Its methods may be
// called one after the other.
type Network struct {
	name    string // of the bridge, and what the names of the rest begin with
	hosts   []Host
	subnet  *subnet
	detours map[pgcluster.NodeID]*detour
	watcher *exec.Cmd
	alive   io.Closer // the watcher's standard input; its end is the sign to clean up
}

// New makes hosts n1, n2, … in a network that is free. A process makes one after the
// other, up to 26.
func New(ctx context.Context, hosts int) (*Network, error) {
	if hosts < 1 || hosts > maxHosts {
		return nil, fmt.Errorf("%d hosts: want 1 to %d", hosts, maxHosts)
	}
	if err := sweep(ctx); err != nil {
		return nil, err
	}
	name, err := freeName()
	if err != nil {
		return nil, err
	}
	n := &Network{name: name, detours: map[pgcluster.NodeID]*detour{}}
	if n.subnet, err = freeSubnet(ctx); err != nil {
		return nil, err
	}
	for i := range hosts {
		id := "n" + strconv.Itoa(i+1)
		n.hosts = append(n.hosts, Host{
			ID: pgcluster.NodeID(id), Address: n.subnet.host(i + 1),
			netns: n.name + "-" + id, port: n.name + "v" + strconv.Itoa(i+1),
		})
	}
	if err := n.watch(); err != nil {
		return nil, errors.Join(err, n.subnet.release())
	}
	if err := n.build(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// freeName returns the name of a bridge that is not there: the id of the process and
// a letter.
func freeName() (string, error) {
	for letter := 'a'; letter <= 'z'; letter++ {
		name := namePrefix + strconv.Itoa(os.Getpid()) + string(letter)
		if _, err := os.Stat(filepath.Join("/sys/class/net", name)); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
	}
	return "", errors.New("this process has too many networks")
}

// ownerOf returns the id of the process that made what has a name that freeName
// returned, or whose name begins with that and a dash.
func ownerOf(name string) (network string, pid int, ok bool) {
	network, _, _ = strings.Cut(name, "-")
	digits := strings.TrimRight(strings.TrimPrefix(network, namePrefix), "abcdefghijklmnopqrstuvwxyz")
	pid, err := strconv.Atoi(digits)
	return network, pid, err == nil && len(network) == len(namePrefix)+len(digits)+1
}

// Hosts returns all hosts, sorted by name.
func (n *Network) Hosts() []Host { return slices.Clone(n.hosts) }

// Close ends what runs on the hosts and removes them. It returns when they are gone.
func (n *Network) Close() error {
	for _, t := range n.detours {
		t.end() // the watcher removes their links
	}
	err := errors.Join(n.alive.Close(), n.watcher.Wait(), n.subnet.release())
	if err != nil {
		return fmt.Errorf("remove network %s: %w", n.name, err)
	}
	return nil
}

func (n *Network) build(ctx context.Context) error {
	outside := []string{
		"link add " + n.name + " type bridge",
		"addr add " + n.subnet.host(0) + "/24 dev " + n.name,
		"link set " + n.name + " up",
	}
	for _, h := range n.hosts {
		outside = append(outside,
			"netns add "+h.netns,
			"link add "+h.port+" type veth peer name eth0 netns "+h.netns,
			"link set "+h.port+" master "+n.name+" up",
		)
	}
	if err := run(ctx, outside, "ip", "-batch", "-"); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range n.hosts {
		g.Go(func() error {
			inside := []string{"addr add " + h.Address + "/24 dev eth0", "link set eth0 up", "link set lo up"}
			return run(ctx, inside, "ip", "-n", h.netns, "-batch", "-")
		})
	}
	g.Go(func() error { return n.passForward(ctx) })
	return g.Wait()
}

// passForward lets packets between the hosts pass where FORWARD drops them: with
// Docker, what crosses a bridge crosses it too.
func (n *Network) passForward(ctx context.Context) error {
	rules, err := output(ctx, "iptables", "-w", "-S", "FORWARD")
	if err != nil || !strings.Contains(rules, "-P FORWARD DROP") {
		return err
	}
	return run(ctx, nil, "iptables", "-w", "-I", "FORWARD", "-i", n.name, "-o", n.name, "-j", "ACCEPT")
}

// cleanScript removes what belongs to the Network named $1. An immediate shutdown
// (QUIT) lets PostgreSQL release its shared memory; KILL is for what does not
// listen.
const cleanScript = `
net=$1
spaces() { ls ` + netnsDir + ` 2>/dev/null | grep "^$net-"; }
inside() { for ns in $(spaces); do ip netns pids "$ns"; done 2>/dev/null; }
clean() {
	i=0
	while pids=$(inside); [ -n "$pids" ] && [ $i -lt 100 ]; do
		if [ $i -lt 50 ]; then sig=QUIT; else sig=KILL; fi
		[ $((i % 50)) -eq 0 ] && kill -s CONT $pids 2>/dev/null
		[ $((i % 10)) -eq 0 ] && kill -s $sig $pids 2>/dev/null
		i=$((i + 1))
		sleep 0.05
	done
	for port in $(ls "/sys/class/net/$net/brif" 2>/dev/null); do ip link del "$port"; done
	for ns in $(spaces); do ip netns del "$ns"; done
	[ ! -e "/sys/class/net/$net" ] || ip link del "$net"
	while iptables -w -D FORWARD -i "$net" -o "$net" -j ACCEPT 2>/dev/null; do :; done
}
`

// watch starts the process that cleans up once this one closes its end of a pipe,
// or dies.
func (n *Network) watch() error {
	cmd := exec.Command("/bin/sh", "-c", cleanScript+"cat >/dev/null\nclean\n", "netns-watch", n.name) //nolint:noctx // must outlive every context of the test
	cmd.Dir = "/"
	// A Ctrl-C at the terminal must reach the tests only.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("watch %s: %w", n.name, err)
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("watch %s: %w", n.name, err), alive.Close())
	}
	n.watcher, n.alive = cmd, alive
	return nil
}

// sweep removes what is left of processes that died together with their watchers.
func sweep(ctx context.Context) error {
	stale := map[string]bool{}
	for _, pattern := range []string{netnsDir + "/" + namePrefix + "*", "/sys/class/net/" + namePrefix + "*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("look for old networks: %w", err)
		}
		for _, p := range paths {
			network, pid, ok := ownerOf(filepath.Base(p))
			if !ok {
				continue // none of ours, or a port of a bridge that is found too
			}
			if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); errors.Is(err, fs.ErrNotExist) {
				stale[network] = true
			}
		}
	}
	for name := range stale {
		if err := run(ctx, nil, "/bin/sh", "-c", cleanScript+"clean\n", "netns-sweep", name); err != nil {
			return err
		}
	}
	return nil
}

// run runs a program with lines as its standard input.
func run(ctx context.Context, lines []string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// output returns what a program prints.
func output(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return string(out), nil
}
