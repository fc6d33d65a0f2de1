// Package consumer speaks Kafka, both ends of it.
//
// It promises at least once: a source offset is committed only when each delivery of every record up to it is settled,
// which is delivered, discarded by rule, or its retry or dead-letter record acknowledged by all in-sync replicas. A
// record that cannot be written stops reading and is tried again. Deliveries that a crash repeats have the same webhook-id, and are
// bounded: those in flight, those settled since the last commit, and those that the commit's metadata could not hold.
//
// Who wants an event, and what a POST led to, it leaves to the dispatcher.
//
//	fetch → partition (plan) → dispatcher → settle → writer → tracker → commit
package consumer
