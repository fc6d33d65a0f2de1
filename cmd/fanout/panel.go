package main

import (
	"context"
	"fmt"

	"fanout/admin"
	"fanout/consumer"
	"fanout/dispatcher/egress"
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
	kafka, err := consumer.NewAdmin(i.cfg.Consumer())
	if err != nil {
		_ = store.Close()
		return nil, fmt.Errorf("consumer: %w", err)
	}
	release = func() {
		kafka.Close()
		_ = store.Close()
	}
	return release, i.admin.Attach(admin.Parts{
		Store: store, Directory: i.directory, Dispatcher: i.dispatcher, Kafka: kafka,
		ReplayTopic: missingReplayTopic(i.cfg), Group: i.cfg.Kafka.Group, Version: thisBuild().Version,
		CheckURL: func(url string) error {
			_, err := rules.ParseURL(url)
			return err
		},
	})
}

// serveAdmin answers until ctx ends.
func (i *instance) serveAdmin(ctx context.Context) error {
	defer i.release()
	return i.admin.Run(ctx)
}
