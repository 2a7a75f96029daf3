package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathMetrics() *framework.Path {
	return &framework.Path{
		Pattern:      "metrics",
		DisplayAttrs: attributes("read", "metrics"),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: operation(b.pathMetricsRead, "Read the metrics, as text for Prometheus.", map[string]*framework.FieldSchema{}),
		},
		HelpSynopsis:    "Read the metrics of the mount, for Prometheus.",
		HelpDescription: oneLine(metricsHelp),
	}
}

// pathMetricsRead corresponds to READ on metrics.
func (b *backend) pathMetricsRead(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
	text, contentType, err := b.metrics.Text()
	return textResponse(contentType, text), err
}

const metricsHelp = `
Returns metrics in the text format of Prometheus, not as JSON: operations by kind,
trigger and outcome; how long their steps took; the last and the next rotation of each
role; which roles are overdue, fail or need attention; the ends of overlaps; the queue,
workers and reads. Counters start at zero when a node becomes active. The metrics contain
no values.`
