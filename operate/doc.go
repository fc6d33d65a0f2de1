// Package operate answers what operators ask of the topics: what became of a record or a delivery, what waits, what is dead, and
// what a configuration or a manifest of subscriptions would change. It also sends dead letters out again, repairs malformed records and
// applies manifests. Commands, the API and the dashboard show the same answers.
//
// It promises to change nothing but what it is asked to: a replay writes to the replay topic only, a repair to the record's source
// topic, a manifest to Redis. It reads Kafka through package topic, in memory that does not grow with the topics, and ends when its
// context does.
package operate
