//go:build !race

package dispatcher

const RaceDetector = false
