package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

const subnets = 256 // of 10.97.0.0/16, each a /24

// subnet is a /24 that nobody else on this machine uses.
type subnet struct {
	no   int
	held net.Listener // keeps it from other processes, until it is released or this one ends
}

// freeSubnet returns a subnet that no route of this machine leads into. Processes
// that run side by side start to look at different places.
func freeSubnet(ctx context.Context) (*subnet, error) {
	for i := range subnets {
		s := &subnet{no: (os.Getpid() + i) % subnets}
		free, err := s.unrouted(ctx)
		if err != nil {
			return nil, err
		}
		if !free {
			continue
		}
		// The name is in no file system and lives as long as the process.
		s.held, err = new(net.ListenConfig).Listen(ctx, "unix", "@xpd-netns-"+s.String())
		if err != nil {
			continue // another process was faster
		}
		// It may have been faster still, and be done with holding the name.
		if free, err = s.unrouted(ctx); err == nil && free {
			return s, nil
		}
		if err := errors.Join(err, s.release()); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("no network 10.97.x.0/24 is free")
}

// unrouted reports whether only default routes cover s, and none is inside it.
func (s *subnet) unrouted(ctx context.Context) (bool, error) {
	for _, selector := range []string{"match", "root"} {
		routes, err := output(ctx, "ip", "-4", "-o", "route", "show", "table", "all", selector, s.String())
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(routes) {
			if !strings.HasPrefix(line, "default ") {
				return false, nil
			}
		}
	}
	return true, nil
}

// release lets others have it.
func (s *subnet) release() error { return s.held.Close() }

func (s *subnet) String() string { return fmt.Sprintf("10.97.%d.0/24", s.no) }

// host returns the address of host i: 0 is this process, the others follow.
func (s *subnet) host(i int) string { return fmt.Sprintf("10.97.%d.%d", s.no, 10+i) }
