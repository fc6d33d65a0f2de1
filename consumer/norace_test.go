//go:build !race

package consumer

const RaceDetector = false
