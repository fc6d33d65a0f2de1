//go:build race

package consumer

// RaceDetector says that what the race detector allocates is in every figure.
const RaceDetector = true
