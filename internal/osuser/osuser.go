// Package osuser finds whom to run PostgreSQL as: it refuses to run as root.
package osuser

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// Credential returns the identity that a child process of root takes to run
// PostgreSQL: that of the OS user with this name, who must not be root. It is nil
// if this process is not root: then PostgreSQL runs as whoever we are.
func Credential(name string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if name == "" {
		return nil, errors.New("running as root: name an OS user to run PostgreSQL as")
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("OS user to run PostgreSQL as: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("OS user %q: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("OS user %q: %w", name, err)
	}
	if uid == 0 {
		return nil, fmt.Errorf("OS user %q is root, which PostgreSQL refuses to run as", name)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
