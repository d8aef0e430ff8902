// Package access decides who may do what over HTTP: tokens with roles for services
// and people, and the secret and the certificates of the nodes for what passes
// between nodes. It makes no connections and no certificates.
//
// A token is 32 random bytes, so its SHA-256 is all that is kept: nobody can guess
// 256 bits, hashed slowly or not, and the file of hashes may be read by anybody. What
// is compared is a hash, over all tokens of the file, so the time that it takes says
// nothing of how near a guess came, or which tokens exist.
//
// Wrong tokens are counted by the address that they come from. A source that sent
// too many is refused before anything is compared, but for tokens that it has used
// with success: a stranger behind the same address cannot lock others out.
package access
