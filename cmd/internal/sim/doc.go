// Package sim runs the whole of fanout in virtual time: instances made of the real consumer, dispatcher and directory, in a bubble of
// testing/synctest, with an embedded Kafka and Redis, name server and receivers that are reached over connections in memory. A seed makes
// the traffic, the receivers' moods, and what goes wrong. Hours of the retry schedule pass in seconds.
//
// It is a package of tests: TestShort runs a few seeds with the others, and `make sim ARGS='-seeds 50'` as many as one likes.
// judge_test.go says what must hold after each step and at the end. What fails is told with its seed and with a short trace of what was
// done; CONTRIBUTING.md says how a seed is kept, and how a feature is added.
//
// With the same seed the same things are done at the same instants. What happens within one instant, among goroutines that are all
// ready, is the scheduler's choice: so invariants are checked, and never a trace.
package sim
