package csvimport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// state is how far an import got, as it is kept beside its input.
type state struct {
	Input  inputID `json:"input"`
	Import string  `json:"import"` // fingerprint of what the lines are imported as

	Line         int64 `json:"line"`          // last line that is done
	RejectsBytes int64 `json:"rejects_bytes"` // of the file of rejects, up to that line
	Result
}

// errOther is returned for notes of another input or another way to read it.
var errOther = errors.New("belongs to another import: to a file that has changed since, or to other flags")

// loadState returns the zero state if there are no notes.
func loadState(path string, want state) (state, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return want, nil
	}
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return state{}, fmt.Errorf("read %s: %w", path, err)
	}
	if s.Input != want.Input || s.Import != want.Import {
		return state{}, fmt.Errorf("%s %w; --restart begins anew", path, errOther)
	}
	return s, nil
}

// save replaces the notes as a whole, so that a crash leaves the ones before. They
// are not synced: losing them costs time and nothing else.
func (s state) save(path string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// forget removes the notes of an import that is done or begins anew.
func forget(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
