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
			logical.ReadOperation: operation(b.pathMetricsRead, "Read the metrics, as text for Prometheus.", map[string]*framework.FieldSchema{
				"text": field(framework.TypeString, "The answer is text in Prometheus format, not JSON."),
			}),
		},
		HelpSynopsis:    "Read the metrics of this mount, for Prometheus.",
		HelpDescription: oneLine(metricsHelp),
	}
}

// pathMetricsRead corresponds to READ on metrics.
func (b *backend) pathMetricsRead(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
	text, contentType, err := b.metrics.Text()
	return textResponse(contentType, text), err
}

const metricsHelp = `
Answers metrics for Prometheus: operations by kind, trigger and outcome; how long their
steps took; the last and the next rotation of each role; which roles are overdue, fail or
need attention; overlaps, queue, workers and reads. The node that answers counts since it
became active. The metrics contain no values.`
