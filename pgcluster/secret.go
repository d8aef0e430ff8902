package pgcluster

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Secret is what all nodes of a cluster share and nobody else knows. Every
// password is derived from it, so that nodes agree on them without storing or
// sending any.
type Secret []byte

// minSecret is the least length of a secret that is worth the name, in bytes.
const minSecret = 32

// ParseSecret accepts at least 32 characters, white space around them aside.
func ParseSecret(b []byte) (Secret, error) {
	s := bytes.TrimSpace(b)
	if len(s) < minSecret {
		return nil, fmt.Errorf("the secret has %d bytes, want at least %d: openssl rand -base64 48 makes some", len(s), minSecret)
	}
	return Secret(s), nil
}

// What passwords are for.
const (
	PasswordAdmin       = "admin"       // the superuser of PostgreSQL
	PasswordReplication = "replication" // standbys
	PasswordService     = "service"     // the role that xpd and its DSN connect as
	PasswordNode        = "node"        // between the nodes' HTTP listeners
)

// Password derives the password of one purpose: HMAC-SHA256, in hexadecimal.
func (s Secret) Password(purpose string) string {
	mac := hmac.New(sha256.New, s)
	mac.Write([]byte("xpd " + purpose))
	return hex.EncodeToString(mac.Sum(nil))
}
