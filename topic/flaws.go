package topic

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// logAppendTime is the timestamp type of topics that fanout owns: a record's time is the broker's, whatever clock wrote it.
const logAppendTime = "LogAppendTime"

// tierMargin is how much longer than its delay a retry tier must keep records at least: so long an outage must not lose what is due.
const tierMargin = time.Hour

// Flaw is a setting of an owned topic that is not as fanout needs it (docs/contract.md#checks-of-owned-topics).
type Flaw struct {
	Topic, Setting string
	Found, Want    string
	Fatal          bool   // deliveries are lost without a word: the topic must not be written to
	Why            string // what it leads to
}

// String is the flaw as a sentence, without the topic.
func (f *Flaw) String() string {
	return fmt.Sprintf("%s is %s, want %s: %s", f.Setting, f.shown(f.Found), f.shown(f.Want), f.Why)
}

// shown is a value for people.
func (f *Flaw) shown(value string) string {
	ms, err := strconv.ParseInt(value, 10, 64)
	if f.Setting != "retention.ms" || err != nil || ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return value
	}
	return FormatDelay(time.Duration(ms) * time.Millisecond)
}

// Flaws compares the settings of the topic, as the brokers say them, with what fanout needs. A setting that is not known is fine.
func (s *Spec) Flaws(config map[string]string) (flaws []Flaw) {
	note := func(setting string, fatal bool, why string) {
		flaws = append(flaws, Flaw{s.Name, setting, config[setting], s.Config[setting], fatal, why})
	}
	if strings.Contains(config["cleanup.policy"], "compact") {
		note("cleanup.policy", s.Vital, "of the records with one key only the last is kept")
	}
	if kept, ok := number(config, "retention.ms"); ok && kept >= 0 {
		wanted, _ := number(s.Config, "retention.ms")
		tooShort := s.Delay > 0 && kept < (s.Delay+tierMargin).Milliseconds()
		switch {
		case tooShort:
			note("retention.ms", s.Vital, "records are gone before they are due, or soon after")
		case kept < wanted:
			note("retention.ms", false, "what waits longer is lost")
		}
	}
	if size, ok := number(config, "retention.bytes"); ok && size >= 0 {
		note("retention.bytes", false, "what waits while a receiver is away for long may be lost")
	}
	if limit, ok := number(config, "max.message.bytes"); ok {
		if wanted, _ := number(s.Config, "max.message.bytes"); limit < wanted {
			note("max.message.bytes", false, "the largest records are refused")
		}
	}
	if kind, ok := config["message.timestamp.type"]; ok && kind != logAppendTime {
		note("message.timestamp.type", false, "a clock that is wrong delays retries")
	}
	return flaws
}

func number(config map[string]string, key string) (n int64, ok bool) {
	n, err := strconv.ParseInt(config[key], 10, 64)
	return n, err == nil
}

// Thin says what is lost with one broker, where the brokers chose how many replicas a topic has: empty where nothing is.
func Thin(replicas Replicas, config map[string]string) string {
	minimum, ok := number(config, "min.insync.replicas")
	switch {
	case replicas.All == 1:
		return "it has one replica: what waits in it is lost with one broker"
	case ok && minimum < 2:
		return "min.insync.replicas is " + strconv.FormatInt(minimum, 10) + ": a record that one broker alone has acknowledged is lost with it"
	}
	return ""
}

// Flaws looks at those of the topics that exist.
func (c *Cluster) Flaws(ctx context.Context, specs []Spec) ([]Flaw, error) {
	names := make([]string, len(specs))
	for i := range specs {
		names[i] = specs[i].Name
	}
	sizes, err := c.SizesOf(ctx, names, true)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return sizes[name] == 0 })
	if len(names) == 0 {
		return nil, nil
	}
	settings, err := c.Describe(ctx, names)
	if err != nil {
		return nil, err
	}
	var flaws []Flaw
	for i := range specs {
		flaws = append(flaws, specs[i].Flaws(settings[specs[i].Name])...)
	}
	return flaws, nil
}
