package event

// Set is a set of a catalogue's event names. The zero Set is empty; it is a value, so a copy is a set of its own.
type Set uint64

// AllNames selects every event of any catalogue: a subscription's "*".
const AllNames = ^Set(0)

// Has says whether n is in the set. What is not a known event name is in none.
func (s Set) Has(n Name) bool { return s>>n.row().bit&1 != 0 }

// With is the set and n. What is not a known event name is left out.
func (s Set) With(n Name) Set { return s | 1<<n.row().bit }

// Names are the set's names, in the catalogue's order. The slice is the caller's.
func (s Set) Names(c *Catalogue) []Name {
	var list []Name
	for _, n := range c.table().names {
		if s.Has(n) {
			list = append(list, n)
		}
	}
	return list
}
