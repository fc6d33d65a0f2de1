package main

import (
	"context"
	"fmt"

	"fanout/admin"
	"fanout/egress"
	"fanout/subscriptions"
)

// attach gives the admin listener its API and dashboard. The returned function lets go of what they use, once the
// listener has stopped.
func (i *instance) attach() (release func(), err error) {
	rules, err := egress.New(i.cfg.Egress)
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	store, err := subscriptions.NewStore(i.cfg.Redis)
	if err != nil {
		return nil, fmt.Errorf("subscriptions: %w", err)
	}
	release = func() { _ = store.Close() }
	return release, i.admin.Attach(admin.Parts{
		Store: store, Directory: i.directory, Dispatcher: i.dispatcher, Kafka: i.kafka, LetterIndex: i.letters, Tell: i.journal.Tell, Instances: i.peers.Instances,
		ReplayTopic: missingReplayTopic(i.cfg), Version: thisBuild().Version, Webhooks: i.cfg.Limits.WebhooksPerAccount,
		CheckURL: func(account, url string) error {
			_, err := rules.ParseURL(account, url)
			return err
		},
	})
}

// serveAdmin answers until ctx ends.
func (i *instance) serveAdmin(ctx context.Context) error {
	defer i.release()
	return i.admin.Run(ctx)
}
