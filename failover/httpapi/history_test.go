package httpapi_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/xpd-platform/xpd/client"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cl := c.client(t, "n1")
	got, err := cl.ClusterHistory(t.Context(), 3)
	if err != nil {
		t.Fatalf("ClusterHistory() = %v", err)
	}
	var epochs []uint64
	for _, e := range got {
		epochs = append(epochs, e.Epoch)
	}
	if want := []uint64{77, 78, 79}; !slices.Equal(epochs, want) {
		t.Errorf("epochs = %v, want the last three, %v", epochs, want)
	}
	_, err = cl.ClusterHistory(t.Context(), 0)
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusUnprocessableEntity || p.Field != "limit" {
		t.Errorf("ClusterHistory(0) = %v, want a problem with limit", err)
	}
}
