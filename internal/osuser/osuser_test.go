package osuser_test

import (
	"os"
	"os/user"
	"strconv"
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
