// Package stats holds the statistics that a report of an experiment needs: the
// comparison of two conversion rates, the comparison of two means, and the
// check that units were split as the weights say.
//
// It is pure: it reads no data, keeps no state and does no I/O. What comes in
// are counts and sums, never single values, so that a report over millions of
// units costs one aggregate query. It neither corrects for several comparisons
// nor for looking at a running experiment again and again: each result holds for
// one comparison, looked at once.
//
// Conventions, the same in every function:
//
//   - differences are treatment minus control, lifts are relative to control;
//   - p-values are two-sided and computed from the tail itself, so that they keep
//     their digits far below 1e-16;
//   - alpha is the error probability of an interval: 0.05 gives 95 % intervals;
//   - a result which the data do not determine (no units, no variation, a control
//     of zero) is an undefined [Number] or [Interval], never NaN, infinity or a
//     made-up zero, and is null in JSON;
//   - input that no data can produce is an [*InvalidError].
package stats
