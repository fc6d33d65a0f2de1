package main

import (
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
)

func TestTopicsApply(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.ok(t, "", "topics", "create")
	if out := w.ok(t, "", "topics", "apply", "--dry-run"); !strings.Contains(out, "all topics that exist are set as they should be") {
		t.Errorf("topics that were just created differ: %s", out)
	}
	client := &kafka.Client{Addr: kafka.TCP(w.kafka.ListenAddrs()...), Transport: &kafka.Transport{}}
	res, err := client.IncrementalAlterConfigs(t.Context(), &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: "fanout.retry.5s",
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "cleanup.policy", Value: "compact"}, {Name: "retention.ms", Value: "1000"}},
		}},
	})
	if err != nil || res.Resources[0].Error != nil {
		t.Fatal(err, res)
	}
	code, out, _ := w.fanout(t, "", "check")
	for _, want := range []string{"cleanup.policy is compact, want delete", "retention.ms is 1s, want 240h", "fanout topics apply"} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("check: exit %d, without %q: %s", code, want, out)
		}
	}
	for _, args := range [][]string{{"--dry-run"}, {}} {
		_, out, _ := w.fanout(t, "", append([]string{"topics", "apply"}, args...)...)
		if !strings.Contains(out, "cleanup.policy") || !strings.Contains(out, "compact") || !strings.Contains(out, "864000000") {
			t.Errorf("apply %v does not show the difference: %s", args, out)
		}
	}
	if code, _, errs := w.fanout(t, "", "topics", "apply"); code != 2 || !strings.Contains(errs, "add --yes to go ahead") {
		t.Errorf("without a terminal and --yes: exit %d, %s", code, errs)
	}
	if out := w.ok(t, "", "topics", "apply", "--yes"); !strings.Contains(out, "changed 2 settings") {
		t.Errorf("apply: %s", out)
	}
	if out := w.ok(t, "", "topics", "apply", "--yes", "-o", "json"); !strings.Contains(out, `"changes": []`) {
		t.Errorf("a second apply changes something: %s", out)
	}
}

// check names a group that is gone and whose records nobody would deliver.
func TestCheckNamesOrphans(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.ok(t, "", "topics", "create")
	client := &kafka.Client{Addr: kafka.TCP(w.kafka.ListenAddrs()...), Transport: &kafka.Transport{}}
	res, err := client.Produce(t.Context(), &kafka.ProduceRequest{
		Topic: "fanout.retry.5s", RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte("{}")), Headers: []kafka.Header{{Key: "fanout-group", Value: []byte("before")}}}),
	})
	if err != nil || res.Error != nil {
		t.Fatal(err, res)
	}
	code, out, _ := w.fanout(t, "", "check")
	for _, want := range []string{"problem  topic fanout.retry.5s", "records of consumer group before, which has no members", "kafka.former_groups"} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("exit %d, without %q: %s", code, want, out)
		}
	}
	if code, out, _ := w.fanout(t, "", "check", "--kafka-former-groups", "before"); code != 0 {
		t.Errorf("with the group as a former one: exit %d\n%s", code, out)
	}
	if code, _, errs := w.fanout(t, "", "check", "--kafka-former-groups", "fanout"); code != 1 {
		t.Errorf("its own group as a former one: exit %d %s", code, errs)
	}
}
