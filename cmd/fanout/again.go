package main

import (
	"time"
)

// sending is a replay or a backfill that runs.
type sending interface {
	Sent() int64
	Taken() int64
	Failures() int64
	Sending() time.Duration
}

// sentResult is what it did, for programs.
type sentResult struct {
	Name     string  `json:"name"`
	Sent     int64   `json:"sent"`
	Taken    int64   `json:"taken"` // sent by another one since the plan was made
	Failures int64   `json:"failures"`
	Seconds  float64 `json:"seconds"`
	Error    string  `json:"error,omitempty"`
	Plan     any     `json:"plan"`
}
