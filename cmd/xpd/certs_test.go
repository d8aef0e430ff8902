package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/internal/certs"
)

// bureau runs xpd certs on one folder.
type bureau struct {
	t   *testing.T
	dir string
}

func (b bureau) run(args ...string) (string, error) {
	b.t.Helper()
	var out bytes.Buffer
	err := run(b.t.Context(), append([]string{"certs", "--dir", b.dir}, args...), streams{strings.NewReader(""), &out, &out})
	return out.String(), err
}

// did runs it with --json and returns what became of the CA and of each node.
func (b bureau) did(args ...string) []string {
	b.t.Helper()
	out, err := b.run(append(args, "--json")...)
	if err != nil {
		b.t.Fatalf("xpd certs %v: %v", args, err)
	}
	var r certs.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		b.t.Fatal(err)
	}
	all := []string{r.CA}
	for _, n := range r.Nodes {
		all = append(all, string(n.Node)+" "+n.Did)
	}
	return all
}

func (b bureau) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// open does what xpd run does with a node's folder.
func (b bureau) open(node string) *certs.Store {
	b.t.Helper()
	s, err := certs.Open(filepath.Join(b.dir, node), slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

const bureauCluster = "n1=10.0.0.1,n2=db2.example,n3=[fd00::3]/witness"

// TestCerts leads a cluster's certificates through their life.
func TestCerts(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	b := bureau{t, filepath.Join(t.TempDir(), "tls")}
	expect := func(t *testing.T, want []string, args ...string) {
		t.Helper()
		if diff := cmp.Diff(want, b.did(args...)); diff != "" {
			t.Errorf("xpd certs %v (-want +got):\n%s", args, diff)
		}
	}
	kept := []string{"kept", "n1 kept", "n2 kept", "n3 kept"}

	expect(t, []string{"made", "n1 made", "n2 made", "n3 made"}, "--cluster", bureauCluster, "--san", "n1=shop.example", "--san", "api.example")
	for _, node := range []string{"n1", "n2", "n3"} {
		if got := b.open(node).Node(); string(got) != node {
			t.Errorf("%s has the certificate of %s", node, got)
		}
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "ca.key": 0o600, "n1": 0o700, "n1/node.key": 0o600} {
		if info, err := os.Stat(filepath.Join(b.dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
	t.Run("again changes nothing", func(t *testing.T) { //nolint:paralleltest // a step
		before := b.read("ca.crt") + b.read("n1/node.crt")
		expect(t, kept, "--cluster", bureauCluster)
		expect(t, kept)
		if b.read("ca.crt")+b.read("n1/node.crt") != before {
			t.Error("it changed files")
		}
	})
	t.Run("a node is added", func(t *testing.T) { //nolint:paralleltest // a step
		expect(t, append(slices.Clone(kept), "n4 made"), "--cluster", "n4=10.0.0.4")
		if err := os.RemoveAll(filepath.Join(b.dir, "n4")); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a node has moved", func(t *testing.T) { //nolint:paralleltest // a step
		expect(t, []string{"kept", "n1 kept", "n2 renewed", "n3 kept"}, "--cluster", "n2=10.0.0.22")
	})
	t.Run("a key is lost", func(t *testing.T) { //nolint:paralleltest // a step
		if err := os.Remove(filepath.Join(b.dir, "n1", "node.key")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.run("--renew"); err == nil || !strings.Contains(err.Error(), "name the node with --cluster n1=HOST") {
			t.Errorf("without the key of n1: %v", err)
		}
		expect(t, []string{"kept", "n1 made", "n2 kept", "n3 kept"}, "--cluster", "n1=10.0.0.1", "--san", "shop.example")
	})
}

// TestCerts_refuses what would harm.
func TestCerts_refuses(t *testing.T) {
	t.Parallel()
	remove := func(names ...string) func(*testing.T, bureau) {
		return func(t *testing.T, b bureau) {
			t.Helper()
			for _, name := range names {
				if err := os.RemoveAll(filepath.Join(b.dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	tests := []struct {
		name   string
		before func(*testing.T, bureau)
		args   []string
		want   string
	}{
		{name: "no nodes", before: remove("ca.crt", "ca.key", "n1"), want: "name the nodes with --cluster"},
		{name: "a bad member", args: []string{"--cluster", "N1=h"}, want: "--cluster: node name"},
		{name: "a name of nobody", args: []string{"--cluster", "n1=h", "--san", "n7=x"}, want: "want HOST, or NAME=HOST"},
		{name: "a life of no days", args: []string{"--days", "0"}, want: "at least 1"},
		{name: "the CA's certificate is gone", before: remove("ca.crt"), args: []string{"--cluster", "n1=h"}, want: "any node's TLS folder has a copy"},
		{name: "the CA's key is elsewhere", before: remove("ca.key"), args: []string{"--renew"}, want: "ca.key is not here: bring it back"},
		{name: "nothing to rotate", before: remove("ca.crt", "ca.key", "n1"), args: []string{"--rotate-ca"}, want: "no CA to replace"},
		{name: "nothing to drop", args: []string{"--drop-old-ca"}, want: "there is none to drop"},
		{
			name: "the key of another CA", args: []string{"--cluster", "n2=h"}, want: "ca.key belongs to no certificate in ca.crt",
			before: func(t *testing.T, b bureau) {
				t.Helper()
				_, key, err := certs.NewCA("other", 1e15)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(b.dir, "ca.key"), key, 0o600); err != nil {
					t.Fatal(err)
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := bureau{t, t.TempDir()}
			b.did("--cluster", "n1=10.0.0.1")
			if tt.before != nil {
				tt.before(t, b)
			}
			_, err := b.run(tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("xpd certs %v: %v, want an error with %q", tt.args, err, tt.want)
			}
		})
	}
}

// TestCerts_offline looks on without the CA's key, which is kept elsewhere.
func TestCerts_offline(t *testing.T) {
	t.Parallel()
	b := bureau{t, t.TempDir()}
	b.did("--cluster", "n1=10.0.0.1")
	if err := os.Remove(filepath.Join(b.dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"kept", "n1 kept"}, b.did()); diff != "" {
		t.Errorf("xpd certs (-want +got):\n%s", diff)
	}
}

// TestCerts_rotation replaces the CA; at each step the folders open, as they do on the
// hosts.
func TestCerts_rotation(t *testing.T) {
	t.Parallel()
	b := bureau{t, t.TempDir()}
	b.did("--cluster", "n1=10.0.0.1,n2=10.0.0.2", "--name", "shop")
	first := b.read("ca.crt")
	for _, step := range []struct {
		args []string
		want []string
		cas  int
		says string
	}{
		{[]string{"--rotate-ca"}, []string{"rotated", "n1 ca.crt changed", "n2 ca.crt changed"}, 2, "--renew"},
		{[]string{"--cluster", "n3=10.0.0.3"}, []string{"kept", "n1 kept", "n2 kept", "n3 made"}, 2, "--renew"},
		{[]string{"--renew"}, []string{"kept", "n1 renewed", "n2 renewed", "n3 renewed"}, 2, "--drop-old-ca"},
		{[]string{"--drop-old-ca"}, []string{"old one dropped", "n1 ca.crt changed", "n2 ca.crt changed", "n3 ca.crt changed"}, 1, "Nothing changed"},
	} {
		if step.args[0] != "--drop-old-ca" {
			if _, err := b.run("--drop-old-ca"); err == nil {
				t.Errorf("before %v: the old CA was dropped", step.args)
			}
		}
		if diff := cmp.Diff(step.want, b.did(step.args...)); diff != "" {
			t.Errorf("xpd certs %v (-want +got):\n%s", step.args, diff)
		}
		b.open("n1")
		b.open("n2")
		if got := strings.Count(b.read("n1/ca.crt"), "BEGIN"); got != step.cas {
			t.Errorf("after %v: n1 trusts %d CAs, want %d", step.args, got, step.cas)
		}
		out, err := b.run()
		if err != nil || !strings.Contains(out, step.says) {
			t.Errorf("after %v it says %v:\n%s\nwant %q", step.args, err, out, step.says)
		}
	}
	if b.read("ca.crt") == first {
		t.Error("the CA is the same as before")
	}
}
