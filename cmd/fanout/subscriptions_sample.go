package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/dispatcher"
	"fanout/dispatcher/resolve"
	"fanout/event"
	"fanout/subscriptions"
)

// subscriptionsTest makes one attempt at a receiver.
type subscriptionsTest struct {
	*settings
	*output

	network resolve.Config // how receivers are reached
}

func (c *subscriptionsTest) command() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "test ACCOUNT ID",
		Short: "Send a subscription one sample event, and show what came back",
		Long: `test POSTs one signed sample to a subscription's URL, as run would and under the
same egress rules. It shows the status, how long it took, and the answer.
Nothing of it is kept or retried.

Exit status: 0 the answer is 2xx, else 1.`,
		Example: `  fanout subscriptions test acme crm
  fanout subscriptions test acme crm --event SMS_FAILED`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := choice("--event", name, "event name", c.catalogue(cmd).Texts()); err != nil {
				return err
			}
			return c.withStore(cmd, func(ctx context.Context, cfg *config.Config, store *subscriptions.Store) error {
				data, err := getStored(ctx, store, args[0], args[1])
				if err != nil {
					return err
				}
				sub, bad := store.Reader().Parse(args[0], args[1], data)
				if bad != nil {
					return bad
				}
				return c.test(ctx, cfg, sub, name)
			})
		},
	}
	cmd.Flags().StringVar(&name, "event", "", "event name (default: the first one that it selects)")
	return configured(cmd)
}

// tested is the result for a program.
type tested struct {
	Outcome   string  `json:"outcome"`
	Reason    string  `json:"reason,omitempty"`
	Detail    string  `json:"detail,omitempty"`
	Status    int     `json:"status,omitempty"`
	Seconds   float64 `json:"seconds"`
	WebhookID string  `json:"webhookId"`
	Event     string  `json:"event"`
	Body      string  `json:"body"`
	Answer    string  `json:"answer,omitempty"`
}

func (c *subscriptionsTest) test(ctx context.Context, cfg *config.Config, sub *subscriptions.Subscription, name string) error {
	sample, ok := cfg.Catalogue().Parse(name)
	if names := sub.Events().Names(cfg.Catalogue()); !ok && len(names) > 0 {
		sample, ok = names[0], true
	}
	if !ok {
		return hint(fmt.Errorf("%s/%s selects no event", sub.Account(), sub.ID()), "name one with --event")
	}
	del, out, err := c.attemptOnce(ctx, cfg, sub, sample)
	if err != nil {
		return err
	}
	result := tested{
		Outcome: out.Result.String(), Reason: out.Reason.String(), Detail: out.Detail, Status: out.Status, Seconds: out.Took.Seconds(),
		WebhookID: del.ID, Event: sample.String(), Body: string(del.Body), Answer: strings.ToValidUTF8(string(out.Response), "�"),
	}
	if c.asJSON() {
		err = c.json(result)
	} else {
		err = c.facts(result.rows(sub))
	}
	if err == nil && out.Result != dispatcher.Delivered {
		return said()
	}
	return err
}

func (t *tested) rows(sub *subscriptions.Subscription) [][]string {
	rows := [][]string{
		{"POST", subscriptions.MaskedURL(sub.URL())},
		{"webhook-id", t.WebhookID},
		{"signatures", count(signing(sub, time.Now()), "secret")},
		{"event", t.Event},
		{"body", t.Body},
		{"outcome", strings.TrimSpace(t.Outcome + " " + t.Reason)},
		{"time", time.Duration(t.Seconds * float64(time.Second)).Round(10 * time.Microsecond).String()},
	}
	if t.Status > 0 {
		rows = append(rows, []string{"status", strconv.Itoa(t.Status)})
	}
	if t.Detail != "" {
		rows = append(rows, []string{"detail", t.Detail})
	}
	if t.Answer != "" {
		rows = append(rows, []string{"answer", t.Answer})
	}
	return rows
}

// signing counts the secrets that sign at the time now.
func signing(sub *subscriptions.Subscription, now time.Time) (n int) {
	for _, secret := range sub.Secrets() {
		if !secret.Expired(now) {
			n++
		}
	}
	return n
}

// one is a directory of one subscription.
type one struct{ sub *subscriptions.Subscription }

func (o one) Match(dst []*subscriptions.Subscription, account string, name event.Name, _ string) []*subscriptions.Subscription {
	if o.Lookup(account, o.sub.ID()) == nil || !o.sub.Events().Has(name) {
		return dst
	}
	return append(dst, o.sub)
}

func (o one) Lookup(account, id string) *subscriptions.Subscription {
	if account != o.sub.Account() || id != o.sub.ID() {
		return nil
	}
	return o.sub
}

func (o one) Version() uint64 { return 1 }

// settled takes one outcome.
type settled chan dispatcher.Outcome

func (s settled) Settle(_ *dispatcher.Delivery, out dispatcher.Outcome) { s <- out }

// attemptOnce runs a sample delivery through the dispatcher. It is judged as any delivery is: one for a subscription
// that is disabled is discarded, for one that is paused it is deferred.
func (c *subscriptionsTest) attemptOnce(ctx context.Context, cfg *config.Config, sub *subscriptions.Subscription, name event.Name) (*dispatcher.Delivery, dispatcher.Outcome, error) {
	receivers := cfg.Dispatcher(userAgent())
	receivers.Network = c.network
	d, err := dispatcher.New(receivers, one{sub}, nil, nil)
	if err != nil {
		return nil, dispatcher.Outcome{}, fmt.Errorf("dispatcher: %w", err)
	}
	stop := begin(ctx, d.Run)
	sample := event.Event{
		Account: sub.Account(), Name: name, TrackingID: "test-tracking", NotificationID: sub.SampleNotification("test-notification"), UserID: "test-user", ID: "test-" + rand.Text(),
	}
	now, outcome := time.Now(), make(settled, 1)
	del := &dispatcher.Delivery{
		ID: dispatcher.WebhookID(&sample, dispatcher.Origin{}, sub.ID()), Account: sub.Account(), Subscription: sub.ID(),
		Event: name, Body: dispatcher.Body(&sample), FirstSeen: now, AppendedAt: now, Settler: outcome,
	}
	d.Submit(del) // an attempt ends with its own deadline
	select {
	case out := <-outcome:
		return del, out, stop()
	case <-ctx.Done():
		_ = stop() // it is interrupted, which is what is reported
		return del, dispatcher.Outcome{}, fmt.Errorf("send the sample: %w", context.Cause(ctx))
	}
}
