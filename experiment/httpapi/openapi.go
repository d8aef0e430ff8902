package httpapi

import (
	_ "embed" // for the document
	"encoding/json"
	"fmt"
)

//go:embed openapi.json
var openAPIDocument []byte

// document is the part of an OpenAPI document that fragments add to. The rest
// passes through as it is.
type document struct {
	OpenAPI    string                     `json:"openapi,omitempty"`
	Info       json.RawMessage            `json:"info,omitempty"`
	Paths      map[string]json.RawMessage `json:"paths"`
	Components components                 `json:"components"`
}

type components struct {
	Schemas    map[string]json.RawMessage `json:"schemas,omitempty"`
	Parameters map[string]json.RawMessage `json:"parameters,omitempty"`
	Headers    map[string]json.RawMessage `json:"headers,omitempty"`
	Responses  map[string]json.RawMessage `json:"responses,omitempty"`

	SecuritySchemes map[string]json.RawMessage `json:"securitySchemes,omitempty"`
}

// mergeOpenAPI returns the document of this package with the paths and components
// of fragments added. Nothing may be described twice.
func mergeOpenAPI(fragments []json.RawMessage) ([]byte, error) {
	var doc document
	if err := json.Unmarshal(openAPIDocument, &doc); err != nil {
		return nil, fmt.Errorf("read openapi.json: %w", err)
	}
	for i, raw := range fragments {
		var f document
		if err := json.Unmarshal(raw, &f); err != nil {
			return nil, fmt.Errorf("read OpenAPI fragment %d: %w", i, err)
		}
		if err := doc.add(f); err != nil {
			return nil, fmt.Errorf("merge OpenAPI fragment %d: %w", i, err)
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode OpenAPI document: %w", err)
	}
	return out, nil
}

func (d *document) add(f document) error {
	for _, m := range []struct{ to, from *map[string]json.RawMessage }{
		{&d.Paths, &f.Paths},
		{&d.Components.Schemas, &f.Components.Schemas},
		{&d.Components.Parameters, &f.Components.Parameters},
		{&d.Components.Headers, &f.Components.Headers},
		{&d.Components.Responses, &f.Components.Responses},
	} {
		for name, part := range *m.from {
			if _, taken := (*m.to)[name]; taken {
				return fmt.Errorf("%s is described twice", name)
			}
			if *m.to == nil {
				*m.to = map[string]json.RawMessage{}
			}
			(*m.to)[name] = part
		}
	}
	return nil
}
