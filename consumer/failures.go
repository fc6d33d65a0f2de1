package consumer

import "fanout/topic"

// failures counts failures in a row, and says which are worth a line of the log: the first, and then now and then.
//
// Brokers hang up on a connection that is idle, that has to sign in again (connections.max.reauth.ms) or that a quota holds back. One
// hang-up is followed by another connection, and is said only where that fails as well.
type failures struct {
	count int
	said  bool
}

// add counts one, and says whether to log it: the first that counts, and each that makes the count a multiple of every.
func (f *failures) add(err error, every int) bool {
	f.count++
	if f.count == 1 && topic.HungUp(err) {
		return false
	}
	first := !f.said
	f.said = true
	return first || f.count%every == 0
}

// over says that it worked.
func (f *failures) over() { *f = failures{} }
