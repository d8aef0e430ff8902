package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/internal/certs"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Roles and the database that init creates.
const (
	AdminRole       = "xpd_admin"       // superuser; members' hosts and the local socket only
	ReplicationRole = "xpd_replication" // streaming; members' hosts only
	ServiceRole     = "xpd"             // owns Database; from anywhere, with TLS by certificate
	Database        = "xpd"
)

// Secrets are the passwords of the roles. They are the same on all nodes.
type Secrets struct {
	Admin       string
	Replication string
	Service     string
}

// Options configures an Agent. Settings, DataDir, Adopt, StopOnExit and TLS are optional;
// OSUser is required only when running as root.
type Options struct {
	Node       pgcluster.NodeID
	Members    []pgcluster.Member
	Dir        string            // this node's folder
	BinDir     string            // PostgreSQL's programs
	OSUser     string            // run PostgreSQL as this user when we are root
	Secrets    Secrets           // set by init, and by whoever leads when they have changed; a clone inherits them
	Settings   map[string]string // extra postgresql.conf settings
	DataDir    string            // PGDATA, if it is not in Dir
	Adopt      bool              // take DataDir over from whoever has set it up
	StopOnExit bool              // stop PostgreSQL when Run ends, rather than leave it to be adopted
	TLS        *certs.Store      // nil: PostgreSQL speaks plain TCP; else no role of the agent's is let in so
	Logger     *slog.Logger
	Registry   prometheus.Registerer
}

// maxSocketDir keeps the socket's path under the 107 bytes that Linux allows.
const maxSocketDir = 90

func (o Options) validate() error {
	if _, ok := o.member(o.Node); !ok {
		return fmt.Errorf("agent: node %q is not among the members", o.Node)
	}
	if o.Logger == nil || o.Registry == nil {
		return errors.New("agent: a logger and a registry are required")
	}
	for _, secret := range []string{o.Secrets.Admin, o.Secrets.Replication, o.Secrets.Service} {
		if secret == "" || strings.ContainsAny(secret, "\r\n\x00") {
			return errors.New("agent: every secret must be set and be a single line")
		}
	}
	if _, err := os.Stat(filepath.Join(o.BinDir, "postgres")); err != nil {
		return fmt.Errorf("agent: no PostgreSQL in %q: %w", o.BinDir, err)
	}
	for name := range o.Settings {
		if !pgcluster.ValidSettingName(name) {
			return fmt.Errorf("agent: setting %q is not a PostgreSQL setting name", name)
		}
		if pgcluster.OwnedSetting(name) {
			return fmt.Errorf("agent: setting %q is managed by the agent", name)
		}
	}
	return nil
}

func (o Options) member(id pgcluster.NodeID) (pgcluster.Member, bool) {
	i := slices.IndexFunc(o.Members, func(m pgcluster.Member) bool { return m.ID == id })
	if i < 0 {
		return pgcluster.Member{}, false
	}
	return o.Members[i], true
}

func (o Options) self() pgcluster.Member {
	m, _ := o.member(o.Node) // validate made sure that it is there
	return m
}

// paths are the files of a node. See the package comment.
type paths struct {
	state    string
	pg       string
	data     string
	conf     string
	run      string
	log      string
	diverged string
}

// newPaths resolves symbolic links, because /proc shows the folders of processes
// that way.
func newPaths(dir string) (paths, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return paths{}, fmt.Errorf("agent: folder %q: %w", dir, err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return paths{}, fmt.Errorf("agent: folder %q: %w", dir, err)
	}
	pg := filepath.Join(abs, "pg")
	p := paths{
		state:    filepath.Join(abs, "agent.json"),
		pg:       pg,
		data:     filepath.Join(pg, "data"),
		conf:     filepath.Join(pg, "conf"),
		run:      filepath.Join(pg, "run"),
		log:      filepath.Join(pg, "log"),
		diverged: filepath.Join(pg, "diverged"),
	}
	if len(p.run) > maxSocketDir {
		return paths{}, fmt.Errorf("agent: folder %q makes the socket's path too long: shorten it by %d bytes",
			dir, len(p.run)-maxSocketDir)
	}
	return p, nil
}

// dataDir returns PGDATA: what was adopted stays where it is, named again or not.
func (o Options) dataDir(usual string, st saved) (string, error) {
	if o.DataDir == "" {
		if st.Adopted != nil {
			return st.Adopted.DataDir, nil
		}
		return usual, nil
	}
	dir, err := resolve(o.DataDir)
	if err != nil {
		return "", err
	}
	if st.Adopted != nil && st.Adopted.DataDir != dir {
		return "", fmt.Errorf("agent: this node's data is in %s, not in %s", st.Adopted.DataDir, dir)
	}
	return dir, nil
}

// resolve returns where a folder is, or would be.
func resolve(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("agent: folder %q: %w", dir, err)
	}
	if target, err := filepath.EvalSymlinks(abs); err == nil {
		return target, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", fmt.Errorf("agent: folder %q: %w", dir, err)
	}
	return filepath.Join(parent, filepath.Base(abs)), nil
}

func (p paths) passfile() string      { return filepath.Join(p.conf, "upstream.pgpass") }
func (p paths) config() string        { return filepath.Join(p.conf, "postgresql.conf") }
func (p paths) hba() string           { return filepath.Join(p.conf, "pg_hba.conf") }
func (p paths) ident() string         { return filepath.Join(p.conf, "pg_ident.conf") }
func (p paths) wal() string           { return filepath.Join(p.data, "pg_wal") }
func (p paths) autoConf() string      { return filepath.Join(p.data, "postgresql.auto.conf") }
func (p paths) standbySignal() string { return filepath.Join(p.data, "standby.signal") }
func (p paths) postmasterPID() string { return filepath.Join(p.data, "postmaster.pid") }
func (p paths) rewinding() string     { return filepath.Join(p.pg, "rewind.in-progress") }
func (p paths) serverLog() string     { return filepath.Join(p.log, "postgres.log") }
