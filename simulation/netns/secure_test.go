package netns_test

import (
	"testing"

	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// TestF10_secured is for hosts with addresses of their own that speak TLS and ask for
// tokens, as xpd wants it there: what is between the hosts breaks under its connections.
func TestF10_secured(t *testing.T) { //nolint:paralleltest // see above
	slow(t)
	b := bed{secure: true}
	t.Cleanup(b.remove)
	faulttest.ExpectMove(t, b.underLoad(t, faulttest.Rules{}, partitionPrimary), true)
}
