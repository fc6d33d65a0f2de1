// Package operate answers what operators ask of the topics: what became of a record or a delivery, what waits, what is dead, and
// it sends dead letters out again. Commands, the API and the dashboard show the same answers.
//
// It promises to change nothing, but for a replay, which writes to the replay topic only. It reads Kafka through package topic,
// in memory that does not grow with the topics, and ends when its context does.
package operate
