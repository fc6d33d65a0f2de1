// Package topic is what fanout has in Kafka, apart from membership of groups: the names of its topics and their settings, the
// retry tiers, the form of each record that it writes and reads back, how brokers are connected to, and how partitions are read.
//
// It promises that a delivery which becomes a record comes back as the same delivery, that nothing which a broker or a stranger
// has written is believed beyond its bounds, and that only committed, visible records are handed out.
//
// When a record is read, and what becomes of it, it leaves to package consumer; what an operator asks of the topics, to package
// operate.
package topic
