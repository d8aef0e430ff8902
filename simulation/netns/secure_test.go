package netns_test

import "testing"

// TestF10_secured is for hosts with addresses of their own that speak TLS and ask for
// tokens, as xpd wants it there: what is between the hosts breaks under its connections.
func TestF10_secured(t *testing.T) { //nolint:paralleltest // see above
	slow(t)
	b := bed{secure: true}
	t.Cleanup(b.remove)
	expectFailover(t, b.underLoad(t, faultPatience, partitionPrimary), true)
}
