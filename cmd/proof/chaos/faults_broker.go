package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"fanout/cmd/internal/lab"
)

// brokerKill kills the only broker and starts it again. Commits fail meanwhile, and the group may have to be joined
// again: what was settled since the kill may come again.
func brokerKill(ctx context.Context, w *world) error {
	rounds := 2
	if w.set.short {
		rounds = 1
	}
	for range rounds {
		if err := pause(ctx, w.between(3*time.Second, 6*time.Second)); err != nil {
			return err
		}
		if err := w.killNodes(ctx, w.between(time.Second, 5*time.Second), w.kafka.Nodes...); err != nil {
			return err
		}
		if err := pause(ctx, 15*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// brokerFrozen stops the only broker as a suspended machine does: connections stay, and nothing answers.
func brokerFrozen(ctx context.Context, w *world) error {
	if err := pause(ctx, w.between(3*time.Second, 5*time.Second)); err != nil {
		return err
	}
	from := time.Now()
	if err := w.kafka.Pause(); err != nil {
		return err
	}
	frozen := w.length(w.between(20*time.Second, 40*time.Second), 12*time.Second)
	w.notef("frozen %.0f s", frozen.Seconds())
	if err := pause(ctx, frozen); err != nil {
		return err
	}
	if err := w.kafka.Resume(); err != nil {
		return err
	}
	w.crashed(from, time.Now())
	w.faultEnded()
	return pause(ctx, 15*time.Second)
}

// killNodes kills nodes of Kafka and starts them again.
func (w *world) killNodes(ctx context.Context, down time.Duration, nodes ...*lab.KafkaNode) error {
	from := time.Now()
	for _, n := range nodes {
		w.sayf("kill -9 of Kafka's node %d", n.ID)
		w.kills++
		if err := n.Kill(); err != nil {
			return err
		}
	}
	if err := pause(ctx, down); err != nil {
		return err
	}
	began := time.Now()
	if err := w.kafka.Start(ctx); err != nil {
		return err
	}
	w.notef("start of Kafka %.1f s", time.Since(began).Seconds())
	w.crashed(from, time.Now())
	w.faultEnded()
	return nil
}

// nodeDown kills each of three nodes in turn: leaders and coordinators move, and writes go on with two.
func nodeDown(ctx context.Context, w *world) error {
	for _, n := range w.kafka.Nodes {
		if err := pause(ctx, w.between(2*time.Second, 4*time.Second)); err != nil {
			return err
		}
		if err := w.killNodes(ctx, w.between(5*time.Second, 8*time.Second), n); err != nil {
			return err
		}
	}
	return pause(ctx, 8*time.Second)
}

// coordinatorDown kills the node that coordinates each of the groups. The partitions stay with whoever has them, as long as
// the new coordinator has the group's members (docs/contract.md#cooperative).
func coordinatorDown(ctx context.Context, w *world) error {
	for _, name := range []string{group, group + ".retry"} {
		if err := pause(ctx, w.between(3*time.Second, 5*time.Second)); err != nil {
			return err
		}
		found := w.witness.admin.FindGroupCoordinators(ctx, name)[name]
		if found.Err != nil {
			return found.Err
		}
		for _, n := range w.kafka.Nodes {
			if int32(n.ID) != found.NodeID {
				continue
			}
			w.sayf("node %d coordinates %s", n.ID, name)
			if err := w.killNodes(ctx, w.between(6*time.Second, 9*time.Second), n); err != nil {
				return err
			}
		}
	}
	return pause(ctx, 8*time.Second)
}

// twoNodesDown leaves one of three: nothing can be written or committed, all has to wait.
func twoNodesDown(ctx context.Context, w *world) error {
	if err := pause(ctx, 4*time.Second); err != nil {
		return err
	}
	stays := w.rng.IntN(len(w.kafka.Nodes))
	var down []*lab.KafkaNode
	for i, n := range w.kafka.Nodes {
		if i != stays {
			down = append(down, n)
		}
	}
	w.faults.failing.Store(200) // so that there is something to write
	if err := w.killNodes(ctx, w.between(10*time.Second, 15*time.Second), down...); err != nil {
		return err
	}
	w.faults.failing.Store(20)
	return pause(ctx, 10*time.Second)
}

// leaderMoved gives every partition of every topic another leader, again and again.
func leaderMoved(ctx context.Context, w *world) error {
	admin := w.witness.admin
	for range 4 {
		if err := pause(ctx, w.between(2*time.Second, 4*time.Second)); err != nil {
			return err
		}
		topics, err := admin.ListTopicsWithInternal(ctx)
		if err != nil {
			return err
		}
		var req kadm.AlterPartitionAssignmentsReq
		all := make(kadm.TopicsSet)
		for _, t := range topics {
			for _, p := range t.Partitions {
				turn := 1 + w.rng.IntN(max(1, len(p.Replicas)-1))
				req.Assign(t.Topic, p.Partition, append(append([]int32{}, p.Replicas[turn%len(p.Replicas):]...), p.Replicas[:turn%len(p.Replicas)]...))
				all.Add(t.Topic, p.Partition)
			}
		}
		if _, err := admin.AlterPartitionAssignments(ctx, req); err != nil {
			return err
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		w.sayf("electing other leaders of %d topics", len(topics))
		if _, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, all); err != nil {
			return err
		}
		// The group's coordinator has moved as well: no commit is taken until its new place has loaded the group, and a
		// session that noticed waits four seconds for that.
		w.crashed(time.Now(), time.Now().Add(5*time.Second))
		w.faultEnded()
	}
	return pause(ctx, 15*time.Second)
}

// partitionsAdded makes the source topics grow under load.
func partitionsAdded(ctx context.Context, w *world) error {
	if err := pause(ctx, 4*time.Second); err != nil {
		return err
	}
	from := time.Now()
	answers, err := w.witness.admin.CreatePartitions(ctx, 3, sources()...)
	if err == nil {
		err = answers.Error()
	}
	if err != nil {
		return err
	}
	w.faultEnded()
	err = pause(ctx, 15*time.Second)
	w.revoked(from, time.Now())
	return err
}

// fresh starts fanout before Kafka, and on a cluster that has never had a group: __consumer_offsets is not yet there.
func fresh(ctx context.Context, w *world) error {
	if err := w.unload(ctx); err != nil {
		return err
	}
	if err := w.kafka.Stop(ctx); err != nil {
		return err
	}
	for range 2 {
		if _, err := w.addAtOnce(nil); err != nil {
			return err
		}
	}
	if err := pause(ctx, w.between(2*time.Second, 4*time.Second)); err != nil {
		return err
	}
	from := time.Now()
	if err := w.kafka.Start(ctx); err != nil {
		return err
	}
	w.load(ctx, w.set.rate)
	w.faultEnded()
	for _, f := range w.fans {
		if err := w.ready(ctx, f); err != nil {
			return err
		}
	}
	w.revoked(from, time.Now().Add(time.Second))
	return pause(ctx, 5*time.Second)
}
