package agent

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// keepRoles makes the rest of the roles of an adopted primary, and gives all of them the
// passwords of another secret. Who looked once need not again: another secret comes with
// another process, and whoever leads from here on has looked or gets what it wrote.
func (a *Agent) keepRoles(ctx context.Context) error {
	if err := a.adoptRoles(ctx); err != nil || a.keyed {
		return err
	}
	ours, err := a.passwordsAreOurs(ctx)
	if err != nil {
		return err
	}
	if !ours {
		a.step("setting passwords")
		if err := a.createRoles(ctx); err != nil {
			return err
		}
		a.log.WarnContext(ctx, "the roles had passwords of another secret and have those of this node's now")
	}
	a.keyed = true
	return nil
}

// passwordsAreOurs reports whether the roles log in with the passwords that we know.
func (a *Agent) passwordsAreOurs(ctx context.Context) (bool, error) {
	for role, password := range map[string]string{
		AdminRole: a.o.Secrets.Admin, ReplicationRole: a.o.Secrets.Replication, ServiceRole: a.o.Secrets.Service,
	} {
		var verifier string
		err := a.queryRow(ctx, "SELECT coalesce(max(rolpassword), '') FROM pg_authid WHERE rolname = "+quoteLiteral(role), &verifier)
		if err != nil {
			return false, fmt.Errorf("look at the password of %s: %w", role, err)
		}
		if !verifies(verifier, password) {
			return false, nil
		}
	}
	return true, nil
}

// verifies reports whether a verifier of PostgreSQL's is that of an ASCII password
// (RFC 5803): SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER.
func verifies(verifier, password string) bool {
	rest, ok := strings.CutPrefix(verifier, "SCRAM-SHA-256$")
	how, keys, found := strings.Cut(rest, "$")
	rounds, salt64, _ := strings.Cut(how, ":")
	stored64, _, _ := strings.Cut(keys, ":")
	iterations, err := strconv.Atoi(rounds)
	salt, saltErr := base64.StdEncoding.DecodeString(salt64)
	stored, storedErr := base64.StdEncoding.DecodeString(stored64)
	if !ok || !found || err != nil || saltErr != nil || storedErr != nil || iterations < 1 || iterations > 1<<20 {
		return false
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, salted)
	mac.Write([]byte("Client Key"))
	key := sha256.Sum256(mac.Sum(nil))
	return hmac.Equal(key[:], stored)
}
