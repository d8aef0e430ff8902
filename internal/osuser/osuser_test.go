package osuser_test

import (
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/xpd-platform/xpd/internal/osuser"
)

func TestCredential(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "root", "no such user", "nobody"} {
		got, err := osuser.Credential(name)
		switch {
		case os.Geteuid() != 0:
			if got != nil || err != nil {
				t.Errorf("Credential(%q) = %v, %v, want nothing: this is not root", name, got, err)
			}
		case name == "nobody":
			u, lookupErr := user.Lookup(name)
			if lookupErr != nil {
				t.Fatal(lookupErr)
			}
			if err != nil || strconv.Itoa(int(got.Uid)) != u.Uid || strconv.Itoa(int(got.Gid)) != u.Gid {
				t.Errorf("Credential(%q) = %v, %v, want uid %s and gid %s", name, got, err, u.Uid, u.Gid)
			}
		default:
			if got != nil || err == nil {
				t.Errorf("Credential(%q) = %v, %v, want an error", name, got, err)
			}
		}
	}
}

// PostgreSQL's user is in a second group where Debian installs certificates.
func TestCredential_hasEveryGroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root takes another identity")
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip(err)
	}
	want, err := u.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	cred, err := osuser.Credential("postgres")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "id", "-G")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(slices.Compact(got), slices.Compact(want)) {
		t.Errorf("runs with groups %v, want %v", got, want)
	}
}
