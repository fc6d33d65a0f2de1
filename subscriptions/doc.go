// Package subscriptions knows who wants which event. It speaks to Redis, and nobody else of fanout's does.
//
// It promises (docs/contract.md#redis):
//
//   - [Directory.Match] and [Directory.Lookup] answer from an immutable snapshot in memory: no lock, no Redis, no
//     allocation of their own. Once [Directory.Ready] is closed, what is not there is known to be absent.
//   - A change announced on the stream fanout:changes is in force as soon as its account has been read again.
//   - What is known is never deleted and refilled. Redis hanging, killed, emptied or restarted leaves the last good
//     snapshot in force; a full load that looks like a loss is refused until an operator confirms it.
//   - A subscription that stops validating keeps its last good version.
//
// Whether a destination may be called is the dispatcher's to judge, and what a delivery becomes is its Outcome: this
// package only says what is configured.
package subscriptions
