// Package webhook is what a receiver sees of a delivery: the request body, the webhook-id and the signature, made and
// checked (docs/contract.md#delivery-over-http, Standard Webhooks 1.0).
//
// It promises that the same event and subscription give the same body and the same webhook-id for ever, and that no
// secret shows in what it prints. It imports nothing of fanout's, so that whoever writes a receiver can read it alone.
package webhook
