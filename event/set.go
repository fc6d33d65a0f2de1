package event

import "math/bits"

// Set is a set of event names. The zero Set is empty; it is a value, so a copy is a set of its own.
type Set uint16

// AllNames selects every event: a subscription's "*".
const AllNames Set = 1<<names - 1<<EmailOpen

// Has says whether n is in the set.
func (s Set) Has(n Name) bool { return s>>n&1 != 0 }

// With is the set and n. What is no event name is left out.
func (s Set) With(n Name) Set { return s | 1<<n&AllNames }

// Names are the set's names in the product page's order. The slice is the caller's.
func (s Set) Names() []Name {
	list := make([]Name, 0, bits.OnesCount16(uint16(s)))
	for n := EmailOpen; n < names; n++ {
		if s.Has(n) {
			list = append(list, n)
		}
	}
	return list
}
