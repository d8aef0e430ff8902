//go:build race

package failover_test

// raced is whether the race detector slows these tests down.
const raced = true
