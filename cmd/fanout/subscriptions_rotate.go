package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/subscriptions"
)

// rotated is the result for a program.
type rotated struct {
	Secret    string          `json:"secret"` // shown this once
	PublicKey string          `json:"publicKey,omitempty"`
	Signing   []signingSecret `json:"signing"` // the new one first
}

// signingSecret is a secret that signs, without telling it.
type signingSecret struct {
	Fingerprint string     `json:"fingerprint"`
	Until       *time.Time `json:"until,omitempty"` // absent: until it is removed
}

// subscriptionsRotate changes a subscription's secret.
type subscriptionsRotate struct {
	*settings
	*output
}

func (c *subscriptionsRotate) command() *cobra.Command {
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "rotate ACCOUNT ID",
		Short: "Make a new signing secret; the present one signs on for a while",
		Long: "rotate makes a new secret for a subscription and shows it, this once. The\n" +
			"present secret signs on for --expires-in, and secrets of earlier rotations\n" +
			"until their own expiry, so that receivers move over without a gap: every\n" +
			"delivery has a signature for each. --expires-in 0 has the present secret cease\n" +
			"to sign at once, as after a leak.",
		Example: "  fanout subscriptions rotate acme crm\n  fanout subscriptions rotate acme crm --expires-in 72h",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lasts < 0 || lasts > subscriptions.RotationLastsMax {
				return misusef("--expires-in %s: want 0 to %s", lasts, subscriptions.RotationLastsMax)
			}
			return c.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				return c.rotate(ctx, store, args[0], args[1], lasts)
			})
		},
	}
	cmd.Flags().DurationVar(&lasts, "expires-in", subscriptions.RotationLasts, "how long the present secret signs on, at most 720h")
	return configured(cmd)
}

func (c *subscriptionsRotate) rotate(ctx context.Context, store *subscriptions.Store, account, id string, lasts time.Duration) error {
	var r subscriptions.Rotation
	_, err := store.Update(ctx, account, id, func(stored json.RawMessage) (json.RawMessage, error) {
		if stored == nil {
			return nil, noSubscription(account, id)
		}
		var err error
		r, err = subscriptions.Rotate(stored, lasts, time.Now())
		return r.JSON, err
	})
	if bad, ok := errors.AsType[*subscriptions.ValidationError](err); ok {
		return hint(fmt.Errorf("rotate %s/%s: %w", account, id, bad), "correct it first: fanout subscriptions get %s %s", account, id)
	}
	if err != nil {
		return fmt.Errorf("rotate %s/%s: %w", account, id, err)
	}
	result := rotated{Secret: r.Secret, PublicKey: r.PublicKey}
	for _, s := range r.Signing {
		one := signingSecret{Fingerprint: s.Fingerprint}
		if !s.Until.IsZero() {
			one.Until = &s.Until
		}
		result.Signing = append(result.Signing, one)
	}
	if c.asJSON() {
		return c.json(result)
	}
	return c.facts(result.rows())
}

func (r *rotated) rows() [][]string {
	rows := [][]string{{"secret", r.Secret}}
	if r.PublicKey != "" {
		rows = append(rows, []string{"public key", r.PublicKey})
	}
	for i, s := range r.Signing {
		until := "until it is removed"
		switch {
		case s.Until != nil:
			until = "until " + s.Until.Format(time.RFC3339)
		case i == 0:
			until = "until it is rotated"
		}
		rows = append(rows, []string{"signs", "the one with fingerprint " + s.Fingerprint + ", " + until})
	}
	return rows
}
