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
	groups, err := groupsOf(u)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: groups}, nil
}

// groupsOf returns the further groups of a user, as a login would give them: through
// one of them, Debian lets PostgreSQL read the key of its certificate.
func groupsOf(u *user.User) ([]uint32, error) {
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of OS user %q: %w", u.Username, err)
	}
	var groups []uint32
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("groups of OS user %q: %w", u.Username, err)
		}
		groups = append(groups, uint32(n))
	}
	return groups, nil
}
