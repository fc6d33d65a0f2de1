// Package dispatcher brings deliveries to their outcome: it plans them, attempts them in lanes, and says what became of
// each (docs/contract.md#lanes). It is the only package of fanout's that speaks outbound HTTP.
//
// It promises:
//
//   - Each submitted delivery is settled exactly once, at the latest when [Dispatcher.Run] ends.
//   - No lane has more attempts under way than it, its subscription and the process allow, and receivers that hang take
//     neither all places nor the room for what is read for others.
//   - Nothing is sent to a subscription that is paused, parked, held by Retry-After, or stopped by a 410.
//   - What an attempt tells is held against the configuration it was made with, and no later one.
//
// A delivery comes to the lane of its subscription, which a follower keeps as the directory has it. The admitter decides what becomes
// of it, by the lane's gate, the semaphore, the backlog and halt. Workers make the attempts with their sender, let the lane learn from
// them, and tell the outcomes. Each of these is handed what it needs; none of them knows the Dispatcher.
//
// Reading, retry topics and commits it leaves to the consumer: an [Outcome] is plain data. A gate is a pure state
// machine; a lane's lock guards it, and no lock is held while a delivery is settled.
package dispatcher
