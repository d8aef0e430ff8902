package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a token file. The bytes leave room for as many lines as there may be
// tokens, and for comments.
const (
	MaxTokens = 10_000
	maxFile   = 4 << 20
)

const (
	tokenPrefix = "xpd_" // so that tools which look for leaked secrets know one
	hashPrefix  = "sha256:"
)

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@._-]{0,63}$`)

// Entry is one line of a token file:
//
//	NAME ROLE[,ROLE…] sha256:HEX [expires=RFC3339]
type Entry struct {
	Name    string
	Roles   []Role
	Hash    string    // sha256: and 64 hexadecimal digits, of the whole token
	Expires time.Time // zero: never
}

// Expired reports whether e is worth nothing any more.
func (e Entry) Expired(now time.Time) bool { return !e.Expires.IsZero() && !now.Before(e.Expires) }

// String returns the line of e, as Parse takes it.
func (e Entry) String() string {
	line := e.Name + " " + join(e.Roles, ",") + " " + e.Hash
	if !e.Expires.IsZero() {
		line += " expires=" + e.Expires.UTC().Format(time.RFC3339)
	}
	return line
}

// NewToken returns a token, which is to be shown once and never kept, and the hash
// that stands for it in a token file.
func NewToken() (token, hash string, err error) {
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", "", fmt.Errorf("make a token: %w", err)
	}
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
	sum := sha256.Sum256([]byte(token))
	return token, hashPrefix + hex.EncodeToString(sum[:]), nil
}

// Parse reads a token file. Its errors name the line. Empty lines, and those that
// begin with #, say nothing.
func Parse(data []byte) ([]Entry, error) {
	switch {
	case len(data) > maxFile:
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	case !utf8.Valid(data):
		return nil, errors.New("not UTF-8")
	}
	var entries []Entry
	names, hashes := map[string]int{}, map[string]int{}
	no := 0
	for line := range bytes.Lines(data) {
		no++
		e, ok, err := parseLine(string(line))
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", no, err)
		case !ok:
			continue
		case names[e.Name] > 0:
			return nil, fmt.Errorf("line %d: the name %s is that of line %d: names are said in logs and in the audit, so each may stand once", no, e.Name, names[e.Name])
		case hashes[e.Hash] > 0:
			return nil, fmt.Errorf("line %d: the hash of %s is that of line %d: each token has one name", no, e.Name, hashes[e.Hash])
		case len(entries) == MaxTokens:
			return nil, fmt.Errorf("line %d: more than %d tokens", no, MaxTokens)
		}
		names[e.Name], hashes[e.Hash] = no, no
		entries = append(entries, e)
	}
	return entries, nil
}

// parseLine returns false for a line without a token.
func parseLine(line string) (e Entry, ok bool, err error) {
	fields := strings.Fields(line)
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return Entry{}, false, nil
	}
	if len(fields) < 3 || len(fields) > 4 {
		return Entry{}, false, errors.New("want NAME ROLE[,ROLE…] sha256:HEX [expires=TIME]")
	}
	if e.Name, err = ParseName(fields[0]); err != nil {
		return Entry{}, false, err
	}
	if e.Roles, err = ParseRoles(strings.Split(fields[1], ",")); err != nil {
		return Entry{}, false, err
	}
	if e.Hash, err = parseHash(fields[2]); err != nil {
		return Entry{}, false, err
	}
	if len(fields) == 4 {
		if e.Expires, err = parseExpiry(fields[3]); err != nil {
			return Entry{}, false, err
		}
	}
	return e, true, nil
}

// ParseName returns s if it can be the name of a token.
func ParseName(s string) (string, error) {
	if !tokenName.MatchString(s) {
		return "", errors.New("a name is up to 64 letters, digits, dots, dashes, underscores or @, and begins with a letter or digit")
	}
	return s, nil
}

// parseHash returns s with small letters. It does not repeat what it refuses: that
// may be a token which somebody put in the wrong place.
func parseHash(s string) (string, error) {
	digits, ok := strings.CutPrefix(s, hashPrefix)
	if _, err := hex.DecodeString(digits); !ok || err != nil || len(digits) != hex.EncodedLen(sha256.Size) {
		return "", fmt.Errorf("want the token's hash: %s and %d hexadecimal digits", hashPrefix, hex.EncodedLen(sha256.Size))
	}
	return strings.ToLower(s), nil
}

func parseExpiry(s string) (time.Time, error) {
	text, ok := strings.CutPrefix(s, "expires=")
	if !ok {
		return time.Time{}, errors.New("want nothing after the hash but expires=TIME")
	}
	at, err := time.Parse(time.RFC3339, text)
	at = at.UTC().Truncate(time.Second)
	// Years that RFC 3339 has no way to write, and zero, which stands for no end.
	if err != nil || at.Year() < 1970 || at.Year() > 9999 {
		return time.Time{}, errors.New("want the time after expires= like 2027-01-31T12:00:00Z")
	}
	return at, nil
}
