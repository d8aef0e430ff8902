package pgcluster_test

import (
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestSecret(t *testing.T) {
	t.Parallel()
	if _, err := pgcluster.ParseSecret([]byte("  " + strings.Repeat("s", 31) + "\n")); err == nil {
		t.Error("ParseSecret() of 31 characters = nil, want an error")
	}
	s, err := pgcluster.ParseSecret([]byte(strings.Repeat("s", 32) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	// python3 -c 'import hmac; print(hmac.new(b"s"*32, b"xpd admin", "sha256").hexdigest())'
	const want = "ea02c892315f5983f437c8c055839bdf9cd288a91dcd17c763fcdc7c4d1a320e"
	if got := s.Password(pgcluster.PasswordAdmin); got != want {
		t.Errorf("Password(admin) = %s, want %s", got, want)
	}
	if s.Password(pgcluster.PasswordService) == want {
		t.Error("Password() is equal for two purposes")
	}
}
