// Package pgtest gives tests a real PostgreSQL 15: a database for each test, a
// streaming cluster for each test that asks for one, and what a test needs to
// run servers by itself (programs, ports, folders, an unprivileged user).
//
// Nothing outlives the test process, however it ends: every folder has a small
// watcher process that, once the test or its whole process is gone, stops what
// still runs inside the folder and removes it. So there is no TestMain to write.
//
// Where PostgreSQL is not installed the test is skipped; with CI=true it fails.
// The servers trust everybody on loopback and don't fsync: a power cut is not
// among the faults that they are good for.
package pgtest
