package main

import "time"

// scenarios are all kinds of faults, the most valuable ones first.
func scenarios() []scenario {
	return []scenario{
		{name: "kill", about: "kill -9 of one of three instances every 2 to 5 s", short: true, instances: 3, run: killing},
		{name: "kill-alone", about: "kill -9 of the only instance every 2 to 5 s", instances: 1, run: killing},
		{name: "rolling", about: "SIGTERM and restart of each of three instances", short: true, instances: 3, run: rolling},
		{name: "deploy", about: "a receiver that hangs through a rolling restart of three, one instance more, and one less", instances: 3, run: deploying},
		{name: "freeze", about: "SIGSTOP of one of two instances, SIGCONT when its partitions are the other's", short: true, instances: 2, run: freezing},
		{name: "broker-kill", about: "kill -9 of the only broker, and its restart", short: true, instances: 2, run: brokerKill},
		{name: "broker-frozen", about: "SIGSTOP of the only broker, and SIGCONT", instances: 2, run: brokerFrozen},
		{name: "retry-denied", about: "writing to the retry topics denied by an access list", short: true, instances: 2, kafka: authorize, run: denied(retryTopic)},
		{name: "retry-deleted", about: "the retry topics deleted, and created again by somebody", recreates: true, run: deleted(retryTopic, false)},
		{name: "retry-recreated", about: "the retry topics deleted, with kafka.create_topics", recreates: true, run: deleted(retryTopic, true)},
		{name: "dead-few", about: "min.insync.replicas of the dead-letter topic too high", instances: 2, run: tooFew(deadLetter)},
		{name: "dead-denied", about: "writing to the dead-letter topic denied by an access list", instances: 2, kafka: authorize, run: denied(deadLetter)},
		{name: "dead-deleted", about: "the dead-letter topic deleted, and created again by somebody", recreates: true, run: deleted(deadLetter, false)},
		{name: "redis-hang", about: "Redis frozen, an instance killed and started meanwhile", instances: 2, run: redisHang},
		{name: "redis-kill", about: "Redis killed, an instance killed and started meanwhile", short: true, instances: 2, run: redisKill},
		{name: "redis-empty", about: "Redis emptied, an instance killed and started meanwhile", instances: 2, run: redisEmpty},
		{name: "receivers-down", about: "no receiver for a minute", short: true, instances: 2, run: receiversDown},
		{name: "partitions-added", about: "three partitions added to each source topic", instances: 2, run: partitionsAdded},
		{name: "rewind", about: "the group's offsets set to the start", recreates: true, instances: 2, run: rewinding},
		{name: "leader-moved", about: "three nodes: other leaders for all partitions", nodes: 3, instances: 2, run: leaderMoved},
		{name: "node-down", about: "three nodes: each killed in turn", nodes: 3, instances: 2, run: nodeDown},
		{name: "coordinator-down", about: "three nodes: the one that coordinates each group killed", nodes: 3, instances: 3, run: coordinatorDown},
		{name: "two-nodes-down", about: "three nodes: two killed, so that writes must wait", nodes: 3, instances: 2, run: twoNodesDown},
		{name: "fresh", about: "fanout started before Kafka, on a cluster without __consumer_offsets", run: fresh},
		{name: "slow-network", about: "a slow line to the broker, then a dead one, then a cut one", kafka: proxied, run: slowNetwork},
		{name: "disk-full", about: "the snapshot on a full disk", run: diskFull},
		{name: "transactions", about: "transactional producers with aborts, in every compression", short: true, instances: 2, run: transactions},
		{name: "open-transaction", about: "producers that die within a transaction", instances: 2, run: openTransaction},
		{name: "clock", about: "the clocks of two instances set forwards and backwards", waits: true, run: clockSteps},
		{name: "truncated", about: "the log's start overtakes the offset; a source topic created again", recreates: true, instances: 1, run: truncated},
		{name: "replaced", about: "a source topic created again while nothing is read", recreates: true, instances: 1, kafka: authorize, run: replaced},
		{name: "log-cut", about: "the end of a source's log lost with its broker, and written over", instances: 2, recreates: true, run: logCut},
		{name: "dated", about: "records dated up to an hour ahead or back, retry topics with the producers' times", run: dated},
		{name: "schedule", about: "each instance restarted with another schedule, then with the first", instances: 2, run: scheduleChanged},
		{name: "operators", about: "subscriptions paused, slowed down and renewed, and dead letters replayed, under kill -9", instances: 3, run: operators},
		{name: "back-killed", about: "first delivery after kill -9 and restart", instances: 1, plain: true, waits: true, limit: 12 * time.Second, run: backKilled},
		{name: "back-stopped", about: "first delivery after SIGTERM and restart", instances: 1, plain: true, waits: true, limit: 2 * time.Second, run: backStopped},
		{name: "back-redis", about: "first delivery after Redis is back", instances: 1, plain: true, waits: true, limit: 5 * time.Second, run: backRedis},
		{name: "back-receiver", about: "first delivery after the receivers are back, lanes.park_max 4s", plain: true, waits: true, limit: 5 * time.Second, run: backReceiver},
		{name: "back-broker", about: "first delivery after the only broker's kill -9 and restart", instances: 1, plain: true, waits: true, limit: 15 * time.Second, run: backBroker},
	}
}
