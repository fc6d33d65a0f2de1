//go:build race

package consumer_test

// raceDetector says that what the race detector allocates is in every figure.
const raceDetector = true
