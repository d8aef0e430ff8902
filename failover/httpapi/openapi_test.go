package httpapi

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/problem"
)

func TestOpenAPI_namesEveryProblem(t *testing.T) {
	t.Parallel()
	want := []string{
		problem.BadJSON().URI(), problem.UnknownField().URI(), problem.TooLarge().URI(),
		problem.MediaType().URI(), problem.Invalid().URI(), problem.Internal().URI(),
		access.Unauthorized().URI(), access.Forbidden().URI(), access.TooManyFailures().URI(),
	}
	for k := kindRefused; k < kindEnd; k++ {
		want = append(want, k.describe().URI())
	}
	var doc struct {
		Components struct {
			Schemas struct {
				ClusterProblem struct {
					Properties struct {
						Type struct{ Enum []string }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	got := doc.Components.Schemas.ClusterProblem.Properties.Type.Enum
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("types of problems (-code +document):\n%s", diff)
	}
}
