// Package experiment says what an experiment is, what its life is like and which
// treatment a unit gets.
//
// It is pure: definitions, stored assignments and the time come in as arguments,
// and the answer depends on nothing else. Two nodes that hold the same
// definitions and the same rows therefore give the same answer, and a unit whose
// rows are lost would be given the same treatment again as long as its
// experiment was not changed.
//
// A Layer divides its units into SlotCount slots. Experiments of one layer own
// disjoint slots and so exclude each other; layers are salted separately, so
// that experiments of different layers overlap independently. Within an
// experiment the salt of its run draws the treatment, which makes the draw
// independent of the slots and of any other run.
//
// An assignment is written once. From then on it wins over every change of
// weights, slots and schedule, until its experiment is stopped.
package experiment
