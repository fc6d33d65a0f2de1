// Package letters is an index of the dead-letter topic: of each account how many dead letters it has, by subscription and reason, and where the
// newest of them lie, so that its first list comes at once however many others have.
//
// It promises to take no more memory than it is given: accounts beyond that are not known to it, and it says so, for whoever asks then reads the
// topic. It is built in the background, slower than deliveries are made, and its file only saves reading the topic again: one that is gone,
// damaged or about another topic is begun again. Package operate asks it; what the dead letters say is read from the topic.
package letters
