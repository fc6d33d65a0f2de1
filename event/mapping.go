package event

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Mapping says how a source topic's producer spells a raw event (DESIGN.md section 2). The zero Mapping is the
// documented shape.
type Mapping struct {
	Channel string            `mapstructure:"channel"` // fixed channel for the topic; empty: the record says
	Fields  map[string]string `mapstructure:"fields"`  // field name → dotted JSON path
	Types   map[string]string `mapstructure:"types"`   // the producer's type name → ours
}

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
	fields // how many there are
)

//nolint:gochecknoglobals // a constant table
var fieldNames = [fields]string{"accountId", "channel", "type", "trackingId", "notificationId", "userId", "id", "occurredAt"}

// node is a key on the way to a field that is read. The tree of nodes is what a Decoder walks beside the record.
type node struct {
	key      string
	index    int // numbers the nodes of one Decoder, to notice a key given twice
	fields   []field
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
	channel string // fixed for the topic; empty: the record says
	types   []alias
	root    *node
	nodes   int
}

// alias is one line of a mapping's table of type names.
type alias struct{ theirs, ours string }

// Compile checks the mapping. Its error names the key and the value that are wrong.
//
// The keys of fields and types are matched without regard to ASCII case, as configuration readers fold keys. A type
// may be mapped to any name: one without a row in the table of events says that the producer's type is ignored. Where
// the channel is fixed for the topic, the record's own is not read, whatever fields says.
func (m *Mapping) Compile() (*Decoder, error) {
	d := &Decoder{channel: m.Channel, root: new(node)}
	if _, known := Lookup(m.Channel, ""); m.Channel != "" && !known {
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
	paths, err := m.paths()
	if err != nil {
		return nil, err
	}
	for f, path := range paths {
		if field(f) == channel && d.channel != "" {
			continue
		}
		if err := d.read(field(f), path); err != nil {
			return nil, fmt.Errorf("fields.%s: %w", fieldNames[f], err)
		}
	}
	return d, nil
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

// paths is the JSON path of each field, by default its own name.
func (m *Mapping) paths() ([fields]string, error) {
	paths := fieldNames
	for _, key := range slices.Sorted(maps.Keys(m.Fields)) {
		f := slices.IndexFunc(fieldNames[:], func(name string) bool { return equalFold(name, key) })
		if f < 0 {
			return paths, fmt.Errorf("fields.%s: unknown field, want one of %s", key, strings.Join(fieldNames[:], ", "))
		}
		paths[f] = m.Fields[key]
	}
	return paths, nil
}

// read adds the way to f.
func (d *Decoder) read(f field, path string) error {
	keys := strings.Split(path, ".")
	if len(keys) > MaxDepth {
		return fmt.Errorf("path %.64q: deeper than %d", path, MaxDepth)
	}
	at := d.root
	for _, key := range keys {
		if key == "" {
			return fmt.Errorf("path %.64q: empty key", path)
		}
		if len(at.fields) > 0 {
			return fmt.Errorf("path %.64q: %s is read as a value at %s", path, fieldNames[at.fields[0]], at.key)
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
		return fmt.Errorf("path %.64q: another field is read below it", path)
	}
	at.fields = append(at.fields, f)
	return nil
}
