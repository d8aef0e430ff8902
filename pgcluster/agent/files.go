package agent

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// owner is whom PostgreSQL runs as and whom its files belong to. The zero value
// is ourselves.
type owner struct {
	credential *syscall.Credential
}

func (w owner) take(path string) error {
	if w.credential == nil {
		return nil
	}
	return os.Lchown(path, int(w.credential.Uid), int(w.credential.Gid))
}

// mkdir makes a folder that only the owner enters. One that exists is fine.
func (w owner) mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return w.take(path)
}

// replace writes a file in one step: readers see the old or the new content. It
// does nothing if the content is there already. It does not survive a power cut:
// use replaceDurably for that.
func (w owner) replace(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	temp, err := w.create(path+".new", content, false)
	if err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// create makes a file that is not there before. Its folder belongs to the owner, who
// may have put a link there that leads to what only root may write.
func (w owner) create(path string, content []byte, durably bool) (string, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err == nil && durably {
		err = f.Sync()
	}
	if err == nil && w.credential != nil {
		err = f.Chown(int(w.credential.Uid), int(w.credential.Gid))
	}
	return path, errors.Join(err, f.Close())
}

// replaceDurably is replace that also survives a power cut once it returns.
func (w owner) replaceDurably(path string, content []byte) error {
	temp, err := w.create(path+".new", content, true)
	if err != nil {
		return err
	}
	return rename(temp, path)
}

// rename moves a file or folder within its folder, durably.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// remove deletes a file durably. One that does not exist is fine.
func remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// DataDir returns where PostgreSQL's data is.
func (a *Agent) DataDir() string { return a.p.data }
