// Package reach decides whose fault it is that no connection comes about: a receiver's, or that of the network between
// us and all of them (docs/contract.md#faults-of-our-own).
//
// A [Detector] is told what worked and what failed, and the time. It has no clock, no lock and asks nobody: it says what
// has to be asked, and is told the answers. A [Monitor] does the asking, holds failures until it is decided whose they
// are, and says when nothing can be sent and when it can again. There is one of it in a process.
package reach
