package localcluster

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/xpd-platform/xpd/internal/osuser"
)

const (
	secretFile  = "secret"
	membersFile = "cluster"
)

// reachable is where clusters of root go whose folder PostgreSQL's OS user cannot
// enter.
const reachable = "/var/lib/xpd-local"

// prepareDir makes the folder of a cluster and returns its real path. Where the
// OS user that runs PostgreSQL for root cannot reach dir, as below /root, the
// folder is made in elsewhere and dir becomes a symbolic link to it.
func prepareDir(dir, pgUser, elsewhere string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("folder %q: %w", dir, err)
	}
	who, err := runsAs(pgUser)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(abs), 0o755); err != nil { //nolint:gosec // PostgreSQL's OS user must get in
		return "", fmt.Errorf("folder %q: %w", dir, err)
	}
	if _, err := os.Lstat(abs); errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(abs, who, elsewhere); err != nil {
			return "", err
		}
	}
	resolved, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("folder %q: %w", dir, err)
	}
	if blocked := who.blockedBy(resolved); blocked != "" {
		return "", fmt.Errorf("user %s, who runs PostgreSQL for root, cannot enter %s: remove %s if nothing in it is needed "+
			"(it is then made again below %s), or name another folder with --dir", pgUser, blocked, abs, elsewhere)
	}
	return resolved, nil
}

// makeDir makes the folder, or a link to one that who can enter.
func makeDir(abs string, who identity, elsewhere string) error {
	if who.blockedBy(filepath.Dir(abs)) == "" {
		if err := os.Mkdir(abs, 0o755); err != nil { //nolint:gosec // PostgreSQL's OS user must get in
			return fmt.Errorf("make the cluster's folder: %w", err)
		}
		return os.Chmod(abs, 0o755) //nolint:gosec // whatever the umask was
	}
	sum := sha256.Sum256([]byte(abs))
	target := filepath.Join(elsewhere, hex.EncodeToString(sum[:6]))
	for _, d := range []string{elsewhere, target} {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // as above
			return fmt.Errorf("make the cluster's folder: %w", err)
		}
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // as above
			return fmt.Errorf("make the cluster's folder: %w", err)
		}
	}
	if err := os.Symlink(target, abs); err != nil {
		return fmt.Errorf("make the cluster's folder: %w", err)
	}
	return nil
}

// identity is an OS user other than this process's, or the zero value.
type identity struct {
	other    bool
	uid, gid uint32
}

// runsAs returns the identity that PostgreSQL gets: that of this process, or the
// one of name if this process is root.
func runsAs(name string) (identity, error) {
	cred, err := osuser.Credential(name)
	if err != nil || cred == nil {
		return identity{}, err
	}
	return identity{other: true, uid: cred.Uid, gid: cred.Gid}, nil
}

// blockedBy returns the first folder on the way into dir that the identity cannot
// enter, or "". It looks at permission bits only.
func (w identity) blockedBy(dir string) string {
	if !w.other {
		return ""
	}
	if dir != "/" {
		if above := w.blockedBy(filepath.Dir(dir)); above != "" {
			return above
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return dir
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return dir
	}
	const enter = 0o1
	shift := 0
	switch {
	case st.Uid == w.uid:
		shift = 6
	case st.Gid == w.gid:
		shift = 3
	}
	if info.Mode().Perm()>>shift&enter == 0 {
		return dir
	}
	return ""
}

// writeSecret makes the secret that the nodes share, once.
func writeSecret(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return fmt.Errorf("make the cluster's secret: %w", err)
	}
	if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600); err != nil {
		return fmt.Errorf("make the cluster's secret: %w", err)
	}
	return nil
}
