package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// adopted is what the agent keeps of a server that others had set up before.
type adopted struct {
	DataDir  string            `json:"data_dir"`
	Settings map[string]string `json:"settings,omitempty"`
	HBA      []string          `json:"hba,omitempty"` // rules for roles that are not the agent's
	Ident    []string          `json:"ident,omitempty"`
	Roles    bool              `json:"roles"` // the agent's roles and database are there
}

// hba returns the rules for roles that are not the agent's: those of the former
// pg_hba.conf or, if nothing was adopted, one for whatever role people give a password.
// They come after the agent's own, which therefore win, and after one that keeps the
// agent's roles out of theirs.
func (ad *adopted) hba(o Options, s settings) string {
	rules := []string{o.hostRule() + " all all all scram-sha-256"}
	if ad != nil {
		rules = ad.HBA
	}
	if len(rules) == 0 || s.Locked {
		return ""
	}
	return "host all " + AdminRole + "," + ReplicationRole + " all reject\n" + strings.Join(rules, "\n") + "\n"
}

func (ad *adopted) ident() string {
	if ad == nil || len(ad.Ident) == 0 {
		return ""
	}
	return strings.Join(ad.Ident, "\n") + "\n"
}

// adoptedFile is in PGDATA, so that a clone has it, too: after a failover to one, the
// applications of the adopted server find the same settings, and may log in.
const adoptedFile = "xpd.adopted.json"

func (a *Agent) leaveForClones(ad *adopted) error {
	b, err := json.MarshalIndent(ad, "", "  ")
	if err != nil {
		return err
	}
	return a.owner.replaceDurably(filepath.Join(a.p.data, adoptedFile), append(b, '\n'))
}

// adopted returns what was taken over on this node or came with a clone, or nil if
// nothing was. Rules that cannot be read let nobody in.
func (a *Agent) adopted() *adopted {
	if ad := a.state.get().Adopted; ad != nil {
		return ad
	}
	b, err := os.ReadFile(filepath.Join(a.p.data, adoptedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var ad adopted
	if err != nil || json.Unmarshal(b, &ad) != nil {
		return &adopted{}
	}
	// PostgreSQL's user may have written to it.
	ad.HBA = slices.DeleteFunc(ad.HBA, func(line string) bool {
		return strings.ContainsAny(line, "\r\n") || !adoptableRule(line)
	})
	ad.Ident = slices.DeleteFunc(ad.Ident, func(line string) bool { return strings.ContainsAny(line, "\r\n") })
	for name, value := range ad.Settings {
		if !adoptable(name, value) {
			delete(ad.Settings, name)
		}
	}
	return &ad
}
