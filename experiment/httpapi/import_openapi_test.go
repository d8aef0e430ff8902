package httpapi

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
)

func TestImportOpenAPI(t *testing.T) {
	t.Parallel()
	var doc served
	if err := json.Unmarshal(ImportOpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	r.Group(ImportRoutes(nil, time.Now, slog.New(slog.DiscardHandler)))
	var routed, described []string
	err := chi.Walk(r, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routed = append(routed, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routed)
	slices.Sort(described)
	if diff := cmp.Diff(routed, described); diff != "" {
		t.Errorf("routes and their description differ (-routed +described):\n%s", diff)
	}
	structs := map[string][]any{
		"ImportAssignmentsRequest": {importAssignmentsRequest{}, client.AssignmentImport{}},
		"ImportAssignment":         {importAssignmentRow{}, client.ImportedAssignment{}},
		"ImportEventsRequest":      {importEventsRequest{}, client.EventImport{}},
		"ImportEvent":              {importEventRow{}, client.ImportedEvent{}},
		"ImportResponse":           {importResponse{}, client.ImportResult{}},
		"ImportRejection":          {importRejection{}, client.RejectedImport{}},
	}
	if len(doc.Components.Schemas) != len(structs) {
		t.Errorf("%d schemas for %d structs", len(doc.Components.Schemas), len(structs))
	}
	for name, vs := range structs {
		var s schema
		if err := json.Unmarshal(doc.Components.Schemas[name], &s); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
		for _, v := range vs {
			if diff := cmp.Diff(typesOf(s), fieldsOf(reflect.TypeOf(v))); diff != "" {
				t.Errorf("schema %s and %T differ (-schema +struct):\n%s", name, v, diff)
			}
		}
	}
	if client.MaxImportRows != maxImportRows || client.MaxImportBytes != maxBatchBody {
		t.Error("the client has other bounds than the service")
	}
}
