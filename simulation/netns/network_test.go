package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/netns"
)

const (
	patience = 30 * time.Second
	pace     = 10 * time.Millisecond
	udpPort  = 7000
	cutPort  = 7001
	orphans  = "XPD_TEST_ORPHANED_NETWORK" // set in a process that is to die with a network
)

// requireNetns skips the test where there are no network namespaces.
func requireNetns(t *testing.T) {
	t.Helper()
	if err := netns.Probe(t.Context()); err != nil {
		t.Skip(err)
	}
}

// network returns hosts for one test.
func network(t *testing.T, hosts int) *netns.Network {
	t.Helper()
	requireNetns(t)
	n, err := netns.New(t.Context(), hosts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// A process makes one network after the other, so none of these tests is parallel.

func TestNetwork_cutsWhatItIsTold(t *testing.T) { //nolint:paralleltest // see above
	n := network(t, 3)
	sockets := map[pgcluster.NodeID]*net.UDPConn{}
	for _, h := range n.Hosts() {
		sockets[h.ID] = listenOn(t, h)
	}
	everybody := []string{"n1>n2", "n1>n3", "n2>n1", "n2>n3", "n3>n1", "n3>n2"}
	tests := []struct {
		name string
		cut  func(context.Context) error
		lost []string
	}{
		{"nothing", func(context.Context) error { return nil }, nil},
		{"a link", func(ctx context.Context) error { return n.Cut(ctx, "n1", "n2") }, []string{"n1>n2", "n2>n1"}},
		{"one direction of a link", func(ctx context.Context) error { return n.CutOneWay(ctx, "n1", "n2") }, []string{"n1>n2"}},
		{"all that a host sends", func(ctx context.Context) error { return n.CutOneWay(ctx, "n3", "n1", "n2") }, []string{"n3>n1", "n3>n2"}},
		{"a host", func(ctx context.Context) error { return n.Isolate(ctx, "n2") }, []string{"n1>n2", "n2>n1", "n2>n3", "n3>n2"}},
		{"a TCP port, which leaves the rest alone", func(ctx context.Context) error { return n.CutPort(ctx, "n1", udpPort) }, nil},
	}
	for _, tt := range tests { //nolint:paralleltest // see above
		t.Run(tt.name, func(t *testing.T) {
			// Known addresses, so that no packet waits for one until after the cut.
			exchange(t, n, sockets, "before")
			if err := tt.cut(t.Context()); err != nil {
				t.Fatal(err)
			}
			sendAll(t, n, sockets, "cut")
			if err := n.Heal(t.Context()); err != nil {
				t.Fatal(err)
			}
			// Packets of one sender arrive in order: what is missing once a later one
			// is there was dropped.
			got := exchange(t, n, sockets, "healed")
			want := slices.DeleteFunc(slices.Clone(everybody), func(p string) bool { return slices.Contains(tt.lost, p) })
			if diff := cmp.Diff(want, got["cut"]); diff != "" {
				t.Errorf("arrived while cut (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNetwork_blocksOneDirection(t *testing.T) { //nolint:paralleltest // see above
	n := network(t, 2)
	from, to := n.Hosts()[0], n.Hosts()[1]
	ports := map[string]net.Listener{}
	for _, h := range []netns.Host{from, to} {
		onHost(t, h, func() (err error) {
			ports[h.Address], err = net.Listen("tcp", net.JoinHostPort(h.Address, strconv.Itoa(cutPort)))
			return err
		})
		defer ports[h.Address].Close()
	}
	dial := func(at, to netns.Host, wait time.Duration) (failed error) {
		onHost(t, at, func() error {
			conn, err := net.DialTimeout("tcp", ports[to.Address].Addr().String(), wait)
			if failed = err; err == nil {
				failed = conn.Close()
			}
			return nil
		})
		return failed
	}
	if err := n.Block(t.Context(), from.ID, cutPort, to.ID); err != nil {
		t.Fatal(err)
	}
	if err := dial(from, to, futile); err == nil {
		t.Error("a host reaches a port that is blocked to it")
	}
	if err := dial(to, from, patience); err != nil {
		t.Errorf("the other direction is blocked too: %v", err)
	}
	if err := n.Unblock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := dial(from, to, patience); err != nil {
		t.Errorf("after Unblock: %v", err)
	}
}

func TestNetwork_losesPackets(t *testing.T) { //nolint:paralleltest // see above
	const sent = 400
	n := network(t, 2)
	sockets := map[pgcluster.NodeID]*net.UDPConn{}
	for _, h := range n.Hosts() {
		sockets[h.ID] = listenOn(t, h)
	}
	exchange(t, n, sockets, "before")
	if err := n.Lose(t.Context(), 0.5); err != nil {
		t.Fatal(err)
	}
	for range sent {
		sendAll(t, n, sockets, "lossy")
	}
	if err := n.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Of 800 at one half, fewer than 300 or more than 500 come through less often
	// than once in 10¹¹ runs.
	if got := len(exchange(t, n, sockets, "healed")["lossy"]); got < 300 || got > 500 {
		t.Errorf("%d of %d datagrams arrived, want about half", got, 2*sent)
	}
}

func TestNetwork_delays(t *testing.T) { //nolint:paralleltest // see above
	const delay = 200 * time.Millisecond
	n := network(t, 2)
	server, client := n.Hosts()[0], n.Hosts()[1]
	var ln net.Listener
	onHost(t, server, func() (err error) {
		ln, err = net.Listen("tcp", net.JoinHostPort(server.Address, strconv.Itoa(cutPort)))
		return err
	})
	defer ln.Close()
	// What is sent is more than one segment, so that the kernel may leave the work of
	// cutting it up to the other end.
	const size = 1 << 20
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(make([]byte, size)) // whoever reads notices
			_ = conn.Close()
		}
	}()
	fetch := func() (took time.Duration) {
		t.Helper()
		onHost(t, client, func() error {
			began := time.Now()
			conn, err := net.DialTimeout("tcp", ln.Addr().String(), patience)
			if err != nil {
				return err
			}
			defer conn.Close()
			took = time.Since(began)
			got, err := io.Copy(io.Discard, conn)
			if err == nil && got != size {
				err = fmt.Errorf("%d bytes arrived, %d were sent", got, size)
			}
			return err
		})
		return took
	}
	fetch() // now the addresses are known
	if err := n.Delay(t.Context(), server.ID, delay); err != nil {
		t.Fatal(err)
	}
	// A machine that does much else delays connections, too: the quickest of some counts.
	quickest := func(enough time.Duration) time.Duration {
		least := fetch()
		for began := time.Now(); least > enough && time.Since(began) < patience; {
			least = min(least, fetch())
		}
		return least
	}
	if took := quickest(2 * delay); took < delay || took > 4*delay {
		t.Errorf("a connection takes %s, want %s and a little more", took, delay)
	}
	if err := n.Delay(t.Context(), server.ID, delay); err == nil {
		t.Error("a host is delayed twice")
	}
	if err := n.Unplug(t.Context(), server.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := quickest(delay / 2); took >= delay {
		t.Errorf("a connection takes %s after Heal", took)
	}
}

func TestNetwork_freezes(t *testing.T) { //nolint:paralleltest // see above
	n := network(t, 1)
	h := n.Hosts()[0]
	start := func(args ...string) *exec.Cmd {
		command := append(h.Command(), args...)
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	a, b := start("tail", "-f", "/dev/null"), start("sleep", "3600")
	await := func(cmd *exec.Cmd, program, states string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for tick := time.Tick(pace); ctx.Err() == nil; <-tick {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			name, rest, _ := strings.Cut(string(stat), ") ")
			if strings.HasSuffix(name, "("+program) && strings.Contains(states, rest[:1]) {
				return
			}
		}
		t.Fatalf("%s is not in a state of %s", program, states)
	}
	await(a, "tail", "S") // no longer the program that enters the host
	await(b, "sleep", "S")
	freeze := func(programs ...string) {
		t.Helper()
		if err := n.Freeze(t.Context(), h.ID, programs...); err != nil {
			t.Fatal(err)
		}
	}
	freeze("tail")
	await(a, "tail", "T")
	await(b, "sleep", "S")
	freeze()
	await(b, "sleep", "T")
	if err := n.Thaw(t.Context(), h.ID); err != nil {
		t.Fatal(err)
	}
	await(a, "tail", "S")
	await(b, "sleep", "S")
}

func TestNetwork_refusesHostsThatItHasNot(t *testing.T) { //nolint:paralleltest // see above
	n := network(t, 1)
	for name, err := range map[string]error{
		"Cut": n.Cut(t.Context(), "n1", "n2"), "CutOneWay": n.CutOneWay(t.Context(), "n2", "n1"),
		"CutPort": n.CutPort(t.Context(), "n2", 1), "Unplug": n.Unplug(t.Context(), "n2"),
		"Block": n.Block(t.Context(), "n1", 1, "n2"), "Delay": n.Delay(t.Context(), "n2", 1),
		"Freeze": n.Freeze(t.Context(), "n2"), "Thaw": n.Thaw(t.Context(), "n2"),
	} {
		if err == nil {
			t.Errorf("%s of an unknown host = nil, want an error", name)
		}
	}
}

func TestNetwork_cutPort(t *testing.T) { //nolint:paralleltest // see above
	n := network(t, 2)
	server, client := n.Hosts()[0], n.Hosts()[1]
	var ln net.Listener
	onHost(t, server, func() (err error) {
		ln, err = net.Listen("tcp", net.JoinHostPort(server.Address, strconv.Itoa(cutPort)))
		return err
	})
	defer ln.Close()
	dial := func(h *netns.Host, wait time.Duration) error {
		try := func() error {
			conn, err := net.DialTimeout("tcp", ln.Addr().String(), wait)
			if err != nil {
				return err
			}
			return conn.Close()
		}
		if h == nil {
			return try()
		}
		var failed error
		onHost(t, *h, func() error { failed = try(); return nil })
		return failed
	}
	if err := dial(&client, patience); err != nil {
		t.Errorf("before the cut: %v", err)
	}
	if err := n.CutPort(t.Context(), server.ID, cutPort); err != nil {
		t.Fatal(err)
	}
	if err := dial(&client, futile); err == nil {
		t.Error("the port of a host is reached although it is cut")
	}
	if err := dial(nil, patience); err != nil {
		t.Errorf("this process does not reach a host whose port is cut for others: %v", err)
	}
	if err := n.Unplug(t.Context(), server.ID); err != nil {
		t.Fatal(err)
	}
	if err := dial(nil, futile); err == nil {
		t.Error("this process reaches a host that is unplugged")
	}
}

// TestNetwork_goesWithItsProcess kills a process that has a network in which
// something runs.
func TestNetwork_goesWithItsProcess(t *testing.T) { //nolint:paralleltest // see above
	if os.Getenv(orphans) != "" {
		beOrphaned(t)
		return
	}
	requireNetns(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), orphans+"=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inside := ""
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if _, pid, ok := strings.Cut(lines.Text(), "inside: "); ok {
			inside = pid
			break
		}
	}
	if inside == "" {
		t.Error("the other process made no network")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	name := fmt.Sprintf("xpd%da", cmd.Process.Pid)
	gone := func() bool {
		left, err := filepath.Glob("/run/netns/" + name + "-*")
		_, bridge := os.Stat("/sys/class/net/" + name)
		_, process := os.Stat("/proc/" + inside)
		return err == nil && len(left) == 0 && errors.Is(bridge, fs.ErrNotExist) && errors.Is(process, fs.ErrNotExist)
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for !gone() {
		select {
		case <-ctx.Done():
			t.Fatalf("network %s outlived its process", name)
		case <-tick.C:
		}
	}
}

// beOrphaned makes a network, starts something in it and waits to be killed.
func beOrphaned(t *testing.T) {
	t.Helper()
	n, err := netns.New(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	command := append(n.Hosts()[0].Command(), "tail", "-f", "/dev/null")
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("inside: %d\n", cmd.Process.Pid) //nolint:forbidigo // the other process reads it
	_ = cmd.Wait()
}

// onHost runs f with its sockets on h.
func onHost(t *testing.T, h netns.Host, f func() error) {
	t.Helper()
	space := strings.TrimPrefix(h.Command()[1], "--net=")
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			back, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer back.Close()
			there, err := os.Open(space)
			if err != nil {
				return err
			}
			defer there.Close()
			if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			err = f()
			if err := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); err != nil {
				panic(err) // the thread must not run anything else
			}
			runtime.UnlockOSThread()
			return err
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func listenOn(t *testing.T, h netns.Host) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	onHost(t, h, func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(h.Address), Port: udpPort})
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// sendAll sends a datagram from each host to each other.
func sendAll(t *testing.T, n *netns.Network, sockets map[pgcluster.NodeID]*net.UDPConn, word string) {
	t.Helper()
	for _, from := range n.Hosts() {
		for _, to := range n.Hosts() {
			if from.ID == to.ID {
				continue
			}
			text := fmt.Sprintf("%s %s>%s", word, from.ID, to.ID)
			if _, err := sockets[from.ID].WriteToUDP([]byte(text), &net.UDPAddr{IP: net.ParseIP(to.Address), Port: udpPort}); err != nil {
				t.Fatalf("send %s: %v", text, err)
			}
		}
	}
}

// exchange sends a datagram from each host to each other and returns, when all of
// them have arrived, what arrived until then by its word.
func exchange(t *testing.T, n *netns.Network, sockets map[pgcluster.NodeID]*net.UDPConn, word string) map[string][]string {
	t.Helper()
	sendAll(t, n, sockets, word)
	got := map[string][]string{}
	for _, h := range n.Hosts() {
		conn := sockets[h.ID]
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		for missing := len(n.Hosts()) - 1; missing > 0; {
			size, _, err := conn.ReadFromUDP(buf)
			if err != nil {
				t.Fatalf("%s waits for %d more datagrams: %v", h.ID, missing, err)
			}
			said, pair, _ := strings.Cut(string(buf[:size]), " ")
			got[said] = append(got[said], pair)
			if said == word {
				missing--
			}
		}
	}
	for _, pairs := range got {
		slices.Sort(pairs)
	}
	return got
}
