package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/internal/certs"
)

func TestReadConfFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"postgresql.conf": `# a comment
work_mem = 8MB			# min 64kB
Shared_Buffers 32MB
search_path = 'it''s, a\'b # no comment'
archive_command=''
  jit on
broken = 'no end
novalue
include_dir = 'conf.d'
include_if_exists 'missing.conf'
include = 'last.conf'
`,
		"conf.d/10.conf":   "max_connections = 123\n",
		"conf.d/.not.conf": "max_connections = 1\n",
		"conf.d/README":    "max_connections = 2\n",
		"last.conf":        "work_mem = '9MB'\ninclude 'postgresql.conf'\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	if err := readConfFile(filepath.Join(dir, "last.conf"), got, maxIncludes-1); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"work_mem": "8MB", "shared_buffers": "32MB", "search_path": "it's, a'b # no comment", "archive_command": "", "jit": "on",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("at the last level of includes (-want +got):\n%s", diff)
	}
	got = map[string]string{}
	if err := readConfFile(filepath.Join(dir, "postgresql.conf"), got, maxIncludes-1); err != nil {
		t.Fatal(err)
	}
	want["work_mem"], want["max_connections"] = "9MB", "123"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAdoptable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, value string
		want        bool
	}{
		{"work_mem", "8MB", true},
		{"fsync", "off", false},
		{"unix_socket_directories", "/var/run/postgresql", false},
		{"wal_level", "logical", true},
		{"wal_level", "minimal", false},
		{"max_connections", "100", true},
		{"max_connections", "10", false},
		{"max_wal_senders", "0", false},
		{"superuser_reserved_connections", "3", false},
		{"wal_receiver_timeout", "60s", false},
	} {
		if got := adoptable(tt.name, tt.value); got != tt.want {
			t.Errorf("adoptable(%s, %s) = %v", tt.name, tt.value, got)
		}
	}
}

func TestAdopted_hba(t *testing.T) {
	t.Parallel()
	const file = `# TYPE DATABASE USER ADDRESS METHOD
local all all peer
host    shop    shop    10.0.0.0/8 \
  scram-sha-256
hostssl all     @admins 0.0.0.0/0  cert
host    replication backup 10.0.0.9/32 scram-sha-256
host all, replication repl 10.0.0.0/8 trust
host "my shop",replication repl 10.0.0.0/8 trust
host "my shop", "replication" shop, all 127.0.0.1/32 md5
host all all 127.0.0.1/32 md5
nonsense
`
	ad := &adopted{}
	for _, line := range ruleLines(file) {
		if adoptableRule(line) {
			ad.HBA = append(ad.HBA, line)
		}
	}
	const want = `host all xpd_admin,xpd_replication all reject
host    shop    shop    10.0.0.0/8    scram-sha-256
host "my shop", "replication" shop, all 127.0.0.1/32 md5
host all all 127.0.0.1/32 md5
`
	if diff := cmp.Diff(want, ad.hba(Options{}, settings{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := ad.hba(Options{}, settings{Locked: true}); got != "" {
		t.Errorf("a locked server lets in by %q", got)
	}
	const others = "host all xpd_admin,xpd_replication all reject\nhostssl all all all scram-sha-256\n"
	ad = nil
	if diff := cmp.Diff(others, ad.hba(Options{TLS: new(certs.Store)}, settings{})); diff != "" {
		t.Errorf("nothing adopted (-want +got):\n%s", diff)
	}
	if got := ad.hba(Options{}, settings{Locked: true}); got != "" {
		t.Errorf("nothing adopted, locked: it lets in by %q", got)
	}
}
