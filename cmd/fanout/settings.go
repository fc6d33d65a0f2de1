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

// environment holds the environment variables, as NAME=VALUE.
type environment []string

// variable is an environment variable's value, empty where it is not set. As for a process, the last one counts.
func (e environment) variable(name string) (value string) {
	for _, pair := range e {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}

// settings are the configuration as a command reads it, and what it opens with that: Kafka and Redis.
type settings struct {
	*output

	env  environment
	file string // --config
}

// load reads the configuration for cmd, and warns of what is odd.
func (s *settings) load(cmd *cobra.Command) (config.Config, error) {
	file, explicit := s.configFile()
	cfg, warnings, err := config.Load(file, explicit, s.env, cmd.Flags())
	for _, warning := range warnings {
		fmt.Fprintf(s.stderr, "warning: %s\n", warning)
	}
	return cfg, err
}

// loadQuietly reads the configuration without a word.
func (s *settings) loadQuietly(cmd *cobra.Command) (config.Config, bool) {
	file, explicit := s.configFile()
	cfg, _, err := config.Load(file, explicit, s.env, cmd.Flags())
	return cfg, err == nil
}

// configFile is the configuration file, and whether somebody named it.
func (s *settings) configFile() (file string, explicit bool) {
	if file = cmp.Or(s.file, s.env.variable(config.FileVariable)); file != "" {
		return file, true
	}
	return "fanout.yaml", false
}

// catalogue holds the event names of the configuration; the built-in ones where that cannot be read, which is said elsewhere.
func (s *settings) catalogue(cmd *cobra.Command) *event.Catalogue {
	cfg, ok := s.loadQuietly(cmd)
	if !ok {
		return event.BuiltIn()
	}
	return cfg.Catalogue()
}

// withKafka asks something of Kafka, however long that takes, unlike withAdmin.
func (s *settings) withKafka(cmd *cobra.Command, ask func(context.Context, *config.Config, *topic.Cluster) error) error {
	cfg, err := s.load(cmd)
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
func (s *settings) withStore(cmd *cobra.Command, ask func(context.Context, *config.Config, *subscriptions.Store) error) error {
	cfg, err := s.load(cmd)
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
