package httpapi

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// schema is the part of JSON Schema that the document uses for answers.
type schema struct {
	Ref        string            `json:"$ref"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
}

// Every field that is answered is in the document, and nothing else is.
func TestOpenAPI_namesEveryField(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct {
			Schemas map[string]schema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	c := comparison{t, doc.Components.Schemas}
	for name, v := range map[string]any{
		"ClusterStatus":     clusterJSON{},
		"ClusterOperation":  failover.Operation{},
		"ClusterPlan":       planJSON{},
		"ClusterHistory":    struct{ Events []failover.Event }{},
		"ClusterSettings":   settingsJSON{},
		"ClusterMember":     memberJSON{},
		"PauseAnswer":       pausedJSON{},
		"AbsenceAnswer":     absentJSON{},
		"ReclonePlan":       reclonePlanJSON{},
		"RecloneRequest":    recloneJSON{},
		"ClusterAudit":      auditJSON{},
		"NodeReport":        pgcluster.Report{},
		"NodeView":          failover.Sight{},
		"NodeSettings":      nodeSettingsJSON{},
		"AddMemberRequest":  addMemberJSON{},
		"FailoverRequest":   failoverJSON{},
		"RestartRequest":    restartJSON{},
		"PauseRequest":      pauseJSON{},
		"SwitchoverRequest": switchoverJSON{},
	} {
		s, ok := c.schemas[name]
		if !ok {
			t.Errorf("there is no schema %s", name)
			continue
		}
		c.compare(name, s, reflect.TypeOf(v))
	}
}

type comparison struct {
	t       *testing.T
	schemas map[string]schema
}

// compare reports where a schema and a type that is written as JSON differ in their
// fields. An object that the schema leaves open may be anything.
func (c comparison) compare(path string, s schema, typ reflect.Type) {
	c.t.Helper()
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s = c.schemas[name]
	}
	switch typ.Kind() { //nolint:exhaustive // the rest has no fields
	case reflect.Pointer:
		c.compare(path, s, typ.Elem())
	case reflect.Slice:
		if s.Items == nil {
			c.t.Errorf("%s is a list, and the document does not say of what", path)
			return
		}
		c.compare(path+"[]", *s.Items, typ.Elem())
	case reflect.Struct:
		if typ == reflect.TypeFor[time.Time]() || typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			return
		}
		fields := fieldsOf(typ)
		for name, f := range fields {
			if p, ok := s.Properties[name]; ok {
				c.compare(path+"."+name, p, f)
			} else {
				c.t.Errorf("%s.%s is not in the document", path, name)
			}
		}
		for name := range s.Properties {
			if fields[name] == nil {
				c.t.Errorf("%s.%s is in the document only", path, name)
			}
		}
	}
}

// fieldsOf returns the fields of a struct by their names in JSON.
func fieldsOf(typ reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous || !f.IsExported():
			continue
		case name == "":
			name = strings.ToLower(f.Name)
		}
		out[name] = f.Type
	}
	return out
}
