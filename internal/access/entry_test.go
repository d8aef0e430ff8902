package access_test

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/internal/access"
)

const (
	hashA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestNewToken(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^xpd_[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 100 {
		token, hash, err := access.NewToken()
		if err != nil {
			t.Fatal(err)
		}
		if !shape.MatchString(token) || seen[token] {
			t.Fatalf("NewToken() = %q, want a new one like %s", token, shape)
		}
		seen[token] = true
		if want := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(token))); hash != want {
			t.Errorf("hash of %s = %s, want what sha256sum says: %s", token, hash, want)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := access.Parse([]byte("# the shop\n\n  shop\tassign,ingest  " + strings.ToUpper(hashA[7:9]) + "\n"))
	if err == nil {
		t.Errorf("Parse() of a hash without its prefix = %v", got)
	}
	got, err = access.Parse([]byte("# the shop\n\n  shop\tassign,ingest  sha256:" + strings.ToUpper(hashA[7:]) + "  \r\n" +
		"eva@example.com dba " + hashB + " expires=2027-01-31T13:00:00+01:00"))
	if err != nil {
		t.Fatalf("Parse() = %v", err)
	}
	want := []access.Entry{
		{Name: "shop", Roles: []access.Role{access.RoleAssign, access.RoleIngest}, Hash: hashA},
		{Name: "eva@example.com", Roles: []access.Role{access.RoleDBA}, Hash: hashB, Expires: time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse() (-want +got):\n%s", diff)
	}
}

func TestParse_refuses(t *testing.T) {
	t.Parallel()
	many := &strings.Builder{}
	for i := range access.MaxTokens + 1 {
		fmt.Fprintf(many, "t%d dba sha256:%064x\n", i, i)
	}
	tests := []struct{ name, text, want string }{
		{"too few fields", "shop assign", "line 1: want NAME ROLE"},
		{"too many fields", "shop assign " + hashA + " expires=2027-01-31T12:00:00Z now", "line 1: want NAME ROLE"},
		{"an unknown role", "# x\nshop assing " + hashA, `line 2: there is no role "assing": want one of assign, ingest, experimenter, dba`},
		{"the role of nodes", "shop node " + hashA, `line 1: no token has the role "node"`},
		{"a role twice", "shop dba,dba " + hashA, "line 1: the role dba is named twice"},
		{"no role", "shop , " + hashA, `line 1: there is no role ""`},
		{"a name twice", "shop dba " + hashA + "\n\nshop dba " + hashB, "line 3: the name shop is that of line 1"},
		{"a hash twice", "shop dba " + hashA + "\nmall dba " + hashA, "line 2: the hash of mall is that of line 1"},
		{"a hash twice, in capitals", "shop dba " + hashA + "\nmall dba sha256:" + strings.ToUpper(hashA[7:]), "line 2: the hash of mall is that of line 1"},
		{"a bad name", "sh/op dba " + hashA, "line 1: a name is"},
		{"a name like an option", "-shop dba " + hashA, "line 1: a name is"},
		{"a long name", strings.Repeat("x", 65) + " dba " + hashA, "line 1: a name is"},
		{"a short hash", "shop dba " + hashA[:len(hashA)-1], "line 1: want the token's hash"},
		{"a long hash", "shop dba " + hashA + "00", "line 1: want the token's hash"},
		{"a hash of something else", "shop dba sha256:" + strings.Repeat("x", 64), "line 1: want the token's hash"},
		{"a token in place of its hash", "shop dba xpd_secret", "line 1: want the token's hash"},
		{"no time", "shop dba " + hashA + " expires=tomorrow", "line 1: want the time after expires="},
		{"the zero time, which would be never", "shop dba " + hashA + " expires=0001-01-01T00:00:00Z", "line 1: want the time after expires="},
		{"a year of five digits", "shop dba " + hashA + " expires=9999-12-31T23:59:59-01:00", "line 1: want the time after expires="},
		{"something else than a time", "shop dba " + hashA + " until=2027-01-31T12:00:00Z", "line 1: want nothing after the hash but expires=TIME"},
		{"too many", many.String(), fmt.Sprintf("line %d: more than %d tokens", access.MaxTokens+1, access.MaxTokens)},
		{"not UTF-8", "# \xff", "not UTF-8"},
		{"too large", "#" + strings.Repeat(" ", 4<<20), "more than 4194304 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := access.Parse([]byte(tt.text))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("Parse() = %v, %v, want the error %q", len(got), err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "xpd_secret") {
				t.Errorf("Parse() = %v: an error shows a token", err)
			}
		})
	}
}

// FuzzParse looks for text that says another thing when it is written down again.
func FuzzParse(f *testing.F) {
	f.Add([]byte("# x\nshop assign,ingest " + hashA + "\neva dba " + hashB + " expires=2027-01-31T13:00:00+01:00\n"))
	f.Add([]byte("shop\u00a0dba " + hashA + "\x0bexpires=9999-12-31T23:59:59.9Z"))
	f.Add([]byte("a dba " + hashA + "\rb dba " + hashB))
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := access.Parse(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, e := range first {
			again.WriteString(e.String() + "\n")
		}
		second, err := access.Parse([]byte(again.String()))
		if err != nil {
			t.Fatalf("Parse() of what Parse() understood = %v:\n%s", err, again.String())
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("written down again (-first +second):\n%s", diff)
		}
	})
}
