package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/xpd-platform/xpd/report"
)

// Report returns what the current run of an experiment has shown.
func (c *Client) Report(ctx context.Context, experimentKey string) (report.Report, error) {
	path := "/v1/experiments/" + url.PathEscape(experimentKey) + "/report"
	return fetch[report.Report](ctx, c, call{method: http.MethodGet, path: path})
}
