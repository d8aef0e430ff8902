// Package simulation drives a running cluster with simulated shoppers, breaks it
// on purpose, and checks what it promised.
//
// The load is open-loop: requests are sent when a seeded schedule says, whether or
// not earlier ones were answered, and latency counts from the moment a request was
// due. A slow answer therefore delays nobody else and hides nothing. Beside it
// runs a stream of empty requests at the same rate: the noise floor, without which
// no latency on a shared machine means anything.
//
// The oracle is a Journal in memory of everything that was acknowledged. At the
// end it is held against the tables of the primary and of each synchronous
// standby, read by SQL and not through the service under test: nothing in it may
// be missing or different there, and no answer may contradict an earlier one.
package simulation
