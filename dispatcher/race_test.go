//go:build race

package dispatcher

// RaceDetector says that everything costs ten times as much.
const RaceDetector = true
