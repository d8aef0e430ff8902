// Package pgstore keeps experiments, assignments, exposures and events in
// PostgreSQL and answers from there.
package pgstore
