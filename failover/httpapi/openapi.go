package httpapi

import (
	_ "embed" // for the document
	"encoding/json"
	"slices"
)

//go:embed openapi.json
var openAPIFragment []byte

// OpenAPI returns the paths and components of the routes of this package, to be
// merged into a document.
func OpenAPI() json.RawMessage { return slices.Clone(openAPIFragment) }
