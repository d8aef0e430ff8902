package experiment

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// SlotCount is how many slots a layer has.
const SlotCount = 10_000

// appendPrefixed appends each part behind its length, four bytes big-endian, so
// that no two lists of parts give the same bytes.
func appendPrefixed(b []byte, parts ...string) []byte {
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p))) //nolint:gosec // ids and salts are bounded far below 4 GiB
		b = append(b, p...)
	}
	return b
}

// draw returns a number below n that u and salt fix: the first 8 bytes of
// SHA-256 over the length-prefixed salt, type and id, scaled by multiply-shift.
// Weaker hashes correlate between salts on sequential ids.
func draw(salt []byte, u Unit, n uint64) uint64 {
	var buf [160]byte
	sum := sha256.Sum256(appendPrefixed(buf[:0], string(salt), u.Type, u.ID))
	scaled, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:8]), n)
	return scaled
}

// slot returns the slot of the layer in which u falls.
func (l Layer) slot(u Unit) int { return int(draw(l.Salt, u, SlotCount)) } //nolint:gosec // below SlotCount
