// Package report says what an experiment has shown so far: how many units each
// treatment has, what they did, how the treatments differ from the control, and
// whether the split of units can be trusted at all.
//
// The units of a report are those whose exposure in the current run was confirmed;
// their events count from the exposure on, equality included. A unit without an
// event counts as one that did nothing.
//
// The database reduces everything to counts and exact sums, one pass for each
// metric, and package stats makes the tests of them. All figures of a report are
// of one moment. The package neither stores reports nor corrects for several
// metrics or repeated looks.
package report
