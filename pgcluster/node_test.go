package pgcluster_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestParseMembers(t *testing.T) {
	t.Parallel()
	got, err := pgcluster.ParseMembers("n2=db2, n1=127.0.0.1:1:2:3,n3=[::1]:4")
	if err != nil {
		t.Fatal(err)
	}
	want := []pgcluster.Member{
		{ID: "n1", Host: "127.0.0.1", HTTPPort: 1, RaftPort: 2, PGPort: 3},
		{ID: "n2", Host: "db2", HTTPPort: 8300, RaftPort: 8400, PGPort: 5432},
		{ID: "n3", Host: "::1", HTTPPort: 4, RaftPort: 8400, PGPort: 5432},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseMembers() (-want +got):\n%s", diff)
	}
	if got, want := got[2].HTTPAddr(), "[::1]:4"; got != want {
		t.Errorf("HTTPAddr() = %s, want %s", got, want)
	}
}

func TestParseMembers_refuses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                             "want NAME=HOST",
		"n1":                           "want NAME=HOST",
		"n1=":                          "want NAME=HOST",
		"N1=h":                         "lower-case",
		"n-1=h":                        "lower-case",
		"n1=h:0":                       "port",
		"n1=h:65536":                   "port",
		"n1=h:08":                      "port",
		"n1=h:1:2:3:4":                 "three ports",
		"n1=::1":                       "host is empty",
		"n1=[::1":                      "missing ]",
		"n1=h,n1=g":                    "named twice",
		"n1=h,n2=h":                    "both use address",
		"n1=h:1:2:3,n2=h:4:5:3":        "both use address h:3",
		"n1=h:1:1:3":                   "both use address h:1",
		strings.Repeat("a", 32) + "=h": "lower-case",
		"n1=h/arbiter":                 "want witness, zone=",
		"n1=h/zone":                    "want zone=",
		"n1=h/zone=a b":                "want zone=",
		"n1=h/priority=high":           "want priority=",
		"n1=h/priority=1001":           "want priority=",
		"n1=h/nosync=perhaps":          "true or false",
	} {
		if _, err := pgcluster.ParseMembers(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseMembers(%q) = %v, want an error with %q", in, err, want)
		}
	}
}

func TestParseMembers_tags(t *testing.T) {
	t.Parallel()
	const text = "n1=10.0.0.1:8300:8400:5432/zone=eu-1/priority=-2/nofailover/nosync,n2=::2:8300:8400:5432/witness"
	members, err := pgcluster.ParseMembers(strings.Replace(text, "::2:", "[::2]:", 1))
	if err != nil {
		t.Fatal(err)
	}
	want := []pgcluster.Member{
		{ID: "n1", Host: "10.0.0.1", HTTPPort: 8300, RaftPort: 8400, PGPort: 5432, Zone: "eu-1", Priority: -2, NoFailover: true, NoSync: true},
		{ID: "n2", Host: "::2", HTTPPort: 8300, RaftPort: 8400, PGPort: 5432, Witness: true},
	}
	if diff := cmp.Diff(want, members); diff != "" {
		t.Errorf("ParseMembers() (-want +got):\n%s", diff)
	}
	again, err := pgcluster.ParseMembers(pgcluster.FormatMembers(members))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(members, again); diff != "" {
		t.Errorf("members written and read again (-want +got):\n%s", diff)
	}
}

func TestParseMembers_witnessNeedsNoPostgresPort(t *testing.T) {
	t.Parallel()
	if _, err := pgcluster.ParseMembers("n1=h:1:2:3,n2=h:4:5:3/witness"); err != nil {
		t.Errorf("a witness on the port of another's PostgreSQL: %v", err)
	}
}

func TestWithTags_takesTagsBack(t *testing.T) {
	t.Parallel()
	m := pgcluster.Member{ID: "n1", Zone: "a", Priority: 3, NoFailover: true, NoSync: true}
	got, err := m.WithTags("zone=", "priority=0", "nofailover=false", "nosync=false")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pgcluster.Member{ID: "n1"}, got); diff != "" {
		t.Errorf("WithTags() (-want +got):\n%s", diff)
	}
}
