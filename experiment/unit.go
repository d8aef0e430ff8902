package experiment

import (
	"crypto/sha256"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Bounds of what callers name things with.
const (
	maxKeyBytes   = 64
	maxUnitBytes  = 256
	maxValueBytes = 1024
)

// Unit is what is randomised: a user, a device, a session.
type Unit struct{ Type, ID string }

// ParseUnit is the only way in which strings from outside become a Unit. It
// returns an *InvalidError whose Field is unit.type or unit.id.
func ParseUnit(unitType, id string) (Unit, error) {
	if reason := checkKey(unitType); reason != "" {
		return Unit{}, &InvalidError{Field: "unit.type", Reason: reason}
	}
	if id == "" {
		return Unit{}, &InvalidError{Field: "unit.id", Reason: "must not be empty"}
	}
	if reason := checkText(id, maxUnitBytes); reason != "" {
		return Unit{}, &InvalidError{Field: "unit.id", Reason: reason}
	}
	return Unit{Type: unitType, ID: id}, nil
}

// UnitKey stands for a unit wherever it is stored: 16 bytes however long the id.
type UnitKey [16]byte

// Key returns the first 16 bytes of SHA-256 over the length-prefixed type and id.
func (u Unit) Key() UnitKey {
	sum := sha256.Sum256(appendPrefixed(make([]byte, 0, 96), u.Type, u.ID))
	return UnitKey(sum[:16])
}

// checkKey returns what is wrong with the key of a layer, an experiment, a
// treatment, a metric, a type of unit or event, or "".
func checkKey(key string) string {
	if key == "" || len(key) > maxKeyBytes {
		return fmt.Sprintf("must be 1 to %d characters long", maxKeyBytes)
	}
	for _, c := range []byte(key) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return "may hold a-z, 0-9, _ and - only"
		}
	}
	return ""
}

// checkText returns what is wrong with a text from outside, or "".
func checkText(text string, maxBytes int) string {
	if len(text) > maxBytes {
		return fmt.Sprintf("must be at most %d bytes long", maxBytes)
	}
	if !utf8.ValidString(text) {
		return "must be valid UTF-8"
	}
	for _, r := range text {
		if unicode.IsControl(r) {
			return "must not hold control characters"
		}
	}
	return ""
}
