package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runToken runs xpd token and returns what it printed.
func runToken(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(t.Context(), append([]string{"token"}, args...), streams{strings.NewReader(""), &out, &errs})
	return out.String(), errs.String(), err
}

func TestToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tokens")
	token, said, err := runToken(t, "new", "shop", "--roles", "assign,ingest", "--file", file)
	if err != nil {
		t.Fatal(err)
	}
	if len(token) != len("xpd_")+43+1 || !strings.HasPrefix(token, "xpd_") || !strings.HasSuffix(token, "\n") {
		t.Errorf("stdout is %q, want the token alone", token)
	}
	if strings.Contains(said, strings.TrimSpace(token)) || !strings.Contains(said, "shop may assign,ingest, for ever.") {
		t.Errorf("stderr is %q, want what it may do without the token", said)
	}
	text, err := os.ReadFile(file)
	line := fmt.Sprintf("shop assign,ingest sha256:%x\n", sha256.Sum256([]byte(strings.TrimSpace(token))))
	if err != nil || string(text) != line {
		t.Errorf("the file is %q, %v, want %q", text, err, line)
	}

	var made struct {
		Name, Token string
		Roles       []string
		Expires     time.Time
	}
	before := time.Now()
	out, _, err := runToken(t, "new", "eva", "--roles=dba", "--expires=90d", "--json", "--file", file)
	if err == nil {
		err = json.Unmarshal([]byte(out), &made)
	}
	if err != nil || made.Name != "eva" || !strings.HasPrefix(made.Token, "xpd_") || len(made.Roles) != 1 {
		t.Errorf("new --json = %s, %v", out, err)
	}
	if days := made.Expires.Sub(before).Hours() / 24; days < 89.9 || days > 90.1 {
		t.Errorf("expires %v, want in 90 days", made.Expires)
	}

	want := "NAME  ROLES          VALID\nshop  assign,ingest  for ever\neva   dba            until " + made.Expires.Format(time.RFC3339) + "\n"
	if out, _, err := runToken(t, "list", "--file", file); err != nil || out != want {
		t.Errorf("list = %q, %v, want %q", out, err, want)
	}
	var list []struct{ Name, Token string }
	out, _, err = runToken(t, "list", "--json", "--file", file)
	if err == nil {
		err = json.Unmarshal([]byte(out), &list)
	}
	if err != nil || len(list) != 2 || list[1].Name != "eva" || list[1].Token != "" {
		t.Errorf("list --json = %s, %v", out, err)
	}

	_, said, err = runToken(t, "revoke", "shop", "--file", file)
	if err != nil || !strings.HasSuffix(said, "\n"+line) {
		t.Errorf("revoke = %q, %v, want the line %q at its end", said, err, line)
	}
	if out, _, err := runToken(t, "list", "--file", file); err != nil || strings.Contains(out, "shop") {
		t.Errorf("list after revoke = %q, %v", out, err)
	}
}

func TestToken_refuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, open := filepath.Join(dir, "tokens"), filepath.Join(dir, "open")
	if _, _, err := runToken(t, "new", "eva", "--roles=dba", "--file", file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"a name that is taken", []string{"new", "eva", "--roles=assign", "--file", file}, "revoke it first, or take another name"},
		{"an unknown role", []string{"new", "ada", "--roles=root", "--file", file}, `there is no role "root": want one of assign, ingest, experimenter, dba`},
		{"the role of nodes", []string{"new", "ada", "--roles=node", "--file", file}, "nodes know each other by the cluster's secret"},
		{"a bad name", []string{"new", "a b", "--roles=dba", "--file", file}, "a name is up to 64"},
		{"a time that is over", []string{"new", "ada", "--roles=dba", "--expires=2020-01-01T00:00:00Z", "--file", file}, "not within the next ten years"},
		{"a life of none", []string{"new", "ada", "--roles=dba", "--expires=0d", "--file", file}, "not within the next ten years"},
		{"a life too long", []string{"new", "ada", "--roles=dba", "--expires=9000d", "--file", file}, "not within the next ten years"},
		{"no life", []string{"new", "ada", "--roles=dba", "--expires=soon", "--file", file}, "want days (90d)"},
		{"no roles", []string{"new", "ada", "--file", file}, "--roles"},
		{"a file for all to write to", []string{"new", "ada", "--roles=dba", "--file", open}, "chmod go-w"},
		{"no file to list", []string{"list", "--file", filepath.Join(dir, "none")}, "xpd token new makes it"},
		{"nobody to revoke", []string{"revoke", "ada", "--file", file}, "xpd token list shows the names"},
	}
	for _, tt := range tests {
		out, _, err := runToken(t, tt.args...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(out, "xpd_") {
			t.Errorf("%s: %v, printed %q, want the error %q and no token", tt.name, err, out, tt.want)
		}
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file became %q, %v", after, err)
	}
}

// brokenPipe cannot be written to.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestToken_couldNotBeShown(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tokens")
	err := run(t.Context(), []string{"token", "new", "eva", "--roles=dba", "--file", file}, streams{strings.NewReader(""), brokenPipe{}, &bytes.Buffer{}})
	if err == nil || !strings.Contains(err.Error(), "revoke it and make another") {
		t.Errorf("new without a stdout = %v, want what to do", err)
	}
}
