// Package csvimport loads assignments and events from CSV files, gzip or plain,
// into xpd.
//
// It holds one batch of lines at a time, whatever the size of the file. What
// cannot be accepted goes, line by line, to a file of rejects, and the rest goes
// on. After each batch that the service acknowledged it notes in a small file
// beside the input how far it got, so that the same import carries on after an
// interruption. It could as well begin anew: every row is idempotent. The notes
// only save time.
//
// An event needs an id that is the same whenever its line is read again. It is
// derived, as a version 5 UUID, from the column with the source's own id if there
// is one, and else from everything the line says about the event: unit, type,
// time and amounts. Lines that say the same are then one event. Neither the place
// in the file nor its name is part of it, so that an export which holds some of
// the lines of an earlier one adds only what is new. The price: a line whose
// value was corrected since is another event, which only an id column can tell.
package csvimport
