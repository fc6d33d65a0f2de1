package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
)

// load reads the configuration for cmd, and warns of what is odd.
func (a *app) load(cmd *cobra.Command) (config.Config, error) {
	file, explicit := a.configFile()
	cfg, warnings, err := config.Load(file, explicit, a.env, cmd.Flags())
	for _, warning := range warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", warning)
	}
	return cfg, err
}

// loadQuietly reads the configuration without a word.
func (a *app) loadQuietly(cmd *cobra.Command) (config.Config, bool) {
	file, explicit := a.configFile()
	cfg, _, err := config.Load(file, explicit, a.env, cmd.Flags())
	return cfg, err == nil
}

// configFile is the configuration file, and whether somebody named it.
func (a *app) configFile() (file string, explicit bool) {
	if file = cmp.Or(a.file, a.variable(config.FileVariable)); file != "" {
		return file, true
	}
	return "fanout.yaml", false
}

// variable is an environment variable's value, empty where it is not set. As for a process, the last one counts.
func (a *app) variable(name string) (value string) {
	for _, pair := range a.env {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}

// catalogue holds the event names of the configuration; the built-in ones where that cannot be read, which is said elsewhere.
func (a *app) catalogue(cmd *cobra.Command) *event.Catalogue {
	cfg, ok := a.loadQuietly(cmd)
	if !ok {
		return event.BuiltIn()
	}
	return cfg.Catalogue()
}

// withKafka asks something of Kafka, however long that takes, unlike withAdmin.
func (a *app) withKafka(cmd *cobra.Command, ask func(context.Context, *config.Config, *topic.Cluster) error) error {
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	admin, err := topic.NewCluster(cfg.Topic())
	if err != nil {
		return err
	}
	defer admin.Close()
	return kafkaHint(&cfg, ask(cmd.Context(), &cfg, admin))
}

// withStore asks something of Redis, and gives up after a minute.
func (a *app) withStore(cmd *cobra.Command, ask func(context.Context, *config.Config, *subscriptions.Store) error) error {
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	if err := store.Ping(ctx); err != nil {
		return redisError(err)
	}
	return ask(ctx, &cfg, store)
}
