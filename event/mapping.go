package event

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Mapping says how a source topic's producer spells a raw event (docs/contract.md#source-mapping). The zero Mapping is the
// documented shape (docs/contract.md#raw-events).
type Mapping struct {
	Channel string            `mapstructure:"channel"` // fixed channel for the topic; empty: the record says
	Fields  map[string]string `mapstructure:"fields"`  // field name → dotted JSON path
	Types   map[string]string `mapstructure:"types"`   // the producer's type name → ours, or Ignore
}

// Ignore is what a mapping gives for a producer's type whose records are dropped: they count as ignored. No event has it
// for its type.
const Ignore = "ignore"

// field is a field of the raw event. The order is the one in which Decode looks at them.
type field uint8

const (
	accountID field = iota
	channel
	rawType
	trackingID
	notificationID
	userID
	required       // those before are
	id       field = iota - 1
	occurredAt
	fields // how many there are; the payload's further keys follow
)

//nolint:gochecknoglobals // a constant table
var fieldNames = [fields]string{"accountId", "channel", "type", "trackingId", "notificationId", "userId", "id", "occurredAt"}

// node is a key on the way to a field that is read. The tree of nodes is what a Decoder walks beside the record.
type node struct {
	key      string
	index    int // numbers the nodes of one Decoder, to notice a key given twice
	fields   []field
	label    string // the name of the first of them
	children []*node
}

// find is the child for a key, or nil where nothing below that key is read.
func (n *node) find(key []byte) *node {
	for _, child := range n.children {
		if child.key == string(key) {
			return child
		}
	}
	return nil
}

// Decoder decodes the records of one source topic. It is immutable: any number of goroutines may share it.
type Decoder struct {
	catalogue *Catalogue
	channel   string // fixed for the topic; empty: the record says
	types     []alias
	payload   []string // its further keys
	root      *node
	nodes     int
}

// alias is one line of a mapping's table of type names.
type alias struct{ theirs, ours string }

// Compile checks the mapping against the catalogue. Its error names the key and the value that are wrong. payload are the
// payload's further keys (docs/contract.md#more-payload-keys), which are read at the path that fields gives, by default at their own name.
//
// The keys of fields and types are matched without regard to ASCII case, as configuration readers fold keys. A type that
// no event has is ignored, whether a record or the mapping names it: see [Mapping.UnknownTypes]. Where the channel is fixed for the topic, the record's own is not read, whatever fields says.
func (m *Mapping) Compile(c *Catalogue, payload ...string) (*Decoder, error) {
	d := &Decoder{catalogue: c, channel: m.Channel, payload: payload, root: new(node)}
	if _, known := c.Lookup(m.Channel, ""); m.Channel != "" && !known {
		return nil, fmt.Errorf("channel: unknown channel %q", m.Channel)
	}
	for _, theirs := range slices.Sorted(maps.Keys(m.Types)) {
		ours := m.Types[theirs]
		switch {
		case theirs == "":
			return nil, fmt.Errorf("types: empty type name for %q", ours)
		case ours == "":
			return nil, fmt.Errorf("types.%s: empty type name", theirs)
		case d.alias(theirs) != theirs:
			return nil, fmt.Errorf("types.%s: given twice", theirs)
		}
		d.types = append(d.types, alias{theirs, ours})
	}
	ways, err := m.ways(payload)
	if err != nil {
		return nil, err
	}
	for f, way := range ways {
		if field(f) == channel && d.channel != "" {
			continue
		}
		if err := d.read(field(f), way); err != nil {
			return nil, fmt.Errorf("fields.%s: %w", way.field, err)
		}
	}
	return d, nil
}

// UnknownTypes are the producer's types, sorted, that are mapped to what no event of the mapping's channel has for its type,
// and not to Ignore: most likely misspelt. Where the channel is not fixed, any channel's types will do. It is empty where
// the channel is unknown; empty targets are left to Compile.
func (m *Mapping) UnknownTypes(c *Catalogue) []string {
	known := c.RawTypes(m.Channel)
	if len(known) == 0 {
		return nil
	}
	known = append(known, Ignore)
	var unknown []string
	for _, theirs := range slices.Sorted(maps.Keys(m.Types)) {
		ours := m.Types[theirs]
		if ours != "" && !slices.ContainsFunc(known, func(k string) bool { return equalFold(k, ours) }) {
			unknown = append(unknown, theirs)
		}
	}
	return unknown
}

// alias is our name for the producer's type: the type itself where the table does not have it.
func (d *Decoder) alias(theirs string) string {
	for i := range d.types {
		if equalFold(d.types[i].theirs, theirs) {
			return d.types[i].ours
		}
	}
	return theirs
}

// Ignored are the producer's types, sorted, that the mapping drops.
func (m *Mapping) Ignored() []string {
	var ignored []string
	for _, theirs := range slices.Sorted(maps.Keys(m.Types)) {
		if equalFold(m.Types[theirs], Ignore) {
			ignored = append(ignored, theirs)
		}
	}
	return ignored
}

// way is the JSON path at which a field is read.
type way struct{ field, path string }

// ways are those of all fields, by default their own names, and after them those of the payload's further keys. A key that is
// named as a field is read where the field is.
func (m *Mapping) ways(payload []string) ([]way, error) {
	ways := make([]way, 0, int(fields)+len(payload))
	for _, name := range append(fieldNames[:], payload...) {
		ways = append(ways, way{name, name})
	}
	for _, key := range slices.Sorted(maps.Keys(m.Fields)) {
		known := false
		for i := range ways {
			if equalFold(ways[i].field, key) {
				ways[i].path, known = m.Fields[key], true
			}
		}
		if !known {
			return nil, fmt.Errorf("fields.%s: unknown field, want one of %s", key, strings.Join(append(fieldNames[:], payload...), ", "))
		}
	}
	return ways, nil
}

// read adds the way to f.
func (d *Decoder) read(f field, w way) error {
	keys := strings.Split(w.path, ".")
	if len(keys) > MaxDepth {
		return fmt.Errorf("path %.64q: deeper than %d", w.path, MaxDepth)
	}
	at := d.root
	for _, key := range keys {
		if key == "" {
			return fmt.Errorf("path %.64q: empty key", w.path)
		}
		if len(at.fields) > 0 {
			return fmt.Errorf("path %.64q: %s is read as a value at %s", w.path, at.label, at.key)
		}
		next := at.find([]byte(key))
		if next == nil {
			next = &node{key: key, index: d.nodes}
			d.nodes++
			at.children = append(at.children, next)
		}
		at = next
	}
	if len(at.children) > 0 {
		return fmt.Errorf("path %.64q: another field is read below it", w.path)
	}
	if len(at.fields) == 0 {
		at.label = w.field
	}
	at.fields = append(at.fields, f)
	return nil
}
