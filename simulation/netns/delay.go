package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	maxFrame   = 10 + 14 + 1<<16 // with the kernel's word on checksums, and unsegmented
	maxDelayed = 10_000          // frames on their way; more are lost, as in a router
	portPace   = 10 * time.Millisecond
)

// detour is a link that goes through this process, which holds up what a host sends.
// Kernels without netem have no way of their own for that.
type detour struct {
	port  string // of the host, taken off the bridge
	inner string // the end of a new link to the bridge; the bridge has the other
	ends  [2]*os.File
	pumps sync.WaitGroup
}

// Delay holds up all that a host sends by d, until Heal: a question and its answer
// take d longer, whoever asks.
func (n *Network) Delay(ctx context.Context, a pgcluster.NodeID, d time.Duration) error {
	h, err := n.host(a)
	if err != nil {
		return err
	}
	if n.detours[a] != nil {
		return fmt.Errorf("what %s sends is delayed already", a)
	}
	t := &detour{port: h.port, inner: h.port + "i"}
	lines := []string{
		"link add " + h.port + "o type veth peer name " + t.inner,
		// Without ARP, so that this kernel does not answer beside the bridge.
		"link set " + t.inner + " up arp off",
		"link set " + h.port + " nomaster",
		"link set " + h.port + " arp off",
		"link set " + h.port + "o master " + n.name + " up",
	}
	if err := run(ctx, lines, "ip", "-batch", "-"); err != nil {
		return err
	}
	for i, device := range []string{t.port, t.inner} {
		if t.ends[i], err = openDevice(device); err != nil {
			return errors.Join(err, n.straighten(ctx, t))
		}
	}
	t.pumps.Go(func() { pump(t.ends[0], t.ends[1], d) })
	t.pumps.Go(func() { pump(t.ends[1], t.ends[0], 0) })
	n.detours[a] = t
	return awaitForwarding(ctx, h.port+"o")
}

// awaitForwarding returns once the bridge passes on what comes from a port: the
// kernel takes up to a second to notice that a link is up.
func awaitForwarding(ctx context.Context, port string) error {
	const forwarding = "3"
	tick := time.NewTicker(portPace)
	defer tick.Stop()
	for {
		state, err := os.ReadFile(filepath.Join("/sys/class/net", port, "brport/state"))
		if err != nil {
			return fmt.Errorf("state of port %s: %w", port, err)
		}
		if strings.TrimSpace(string(state)) == forwarding {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for port %s: %w", port, ctx.Err())
		case <-tick.C:
		}
	}
}

// endDelays makes all links direct again.
func (n *Network) endDelays(ctx context.Context) error {
	var errs []error
	for id, t := range n.detours {
		errs = append(errs, n.straighten(ctx, t))
		delete(n.detours, id)
	}
	return errors.Join(errs...)
}

// end ends the pumps.
func (t *detour) end() {
	for _, end := range t.ends {
		if end != nil {
			_ = end.Close()
		}
	}
	t.pumps.Wait()
}

func (n *Network) straighten(ctx context.Context, t *detour) error {
	t.end()
	err := run(ctx, []string{
		"link del " + t.inner,
		"link set " + t.port + " up arp on",
		"link set " + t.port + " master " + n.name,
	}, "ip", "-batch", "-")
	if err != nil {
		return err
	}
	return awaitForwarding(ctx, t.port)
}

// openDevice returns a socket for the frames that arrive at a device and those that
// are to leave by it. Each begins with what the kernel knows of its checksum and
// segments, so that it may be as unfinished as it came.
func openDevice(name string) (*os.File, error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	var protocol [2]byte
	binary.BigEndian.PutUint16(protocol[:], unix.ETH_P_ALL)
	all := binary.NativeEndian.Uint16(protocol[:])
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// pump passes on what arrives at from, each frame d later, until it is closed.
func pump(from, to *os.File, d time.Duration) {
	type frame struct {
		due   time.Time
		bytes []byte
	}
	queue := make(chan frame, maxDelayed)
	defer close(queue)
	go func() { // ends with the queue
		for f := range queue {
			<-time.After(time.Until(f.due))
			_, _ = to.Write(f.bytes) // a frame may get lost on its way
		}
	}()
	buf := make([]byte, maxFrame)
	for {
		size, err := from.Read(buf)
		switch {
		case errors.Is(err, unix.ENETDOWN): // the link was taken down, and will be up again
			continue
		case err != nil:
			return
		}
		select {
		case queue <- frame{time.Now().Add(d), append([]byte(nil), buf[:size]...)}:
		default:
		}
	}
}
