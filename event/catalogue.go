package event

import (
	"fmt"
	"regexp"
	"slices"
	"unique"
)

// MaxNames bounds the event names of a catalogue, the built-in ones among them.
const MaxNames = 64

// Row is one event name of the catalogue, as the configuration adds it (docs/contract.md#catalogue).
type Row struct {
	Name        string `mapstructure:"name"`        // what a subscription selects: EMAIL_DELIVERED
	Channel     string `mapstructure:"channel"`     // of the raw event, and in the payload: EMAIL
	Type        string `mapstructure:"type"`        // of the raw event: DELIVERED
	EventType   string `mapstructure:"eventType"`   // in the payload; empty means the name
	Description string `mapstructure:"description"` // for people
}

// RowProblem says what is wrong with one row, and with which of its keys.
type RowProblem struct {
	Row       int // its index
	Key, Text string
}

// Catalogue holds the event names that exist in a process: the eight built in, and those that the configuration adds. It never
// changes. The nil Catalogue holds the eight.
type Catalogue struct {
	names []Name
	rows  []row // of the names; a Name's own is a copy
}

// BuiltIn is the catalogue of the eight.
func BuiltIn() *Catalogue { return nil }

// add appends a row that is known to be good.
func (c *Catalogue) add(name, channel, rawType, payloadType, description string) Name {
	added := row{name, channel, rawType, payloadType, description, uint8(len(c.rows))}
	n := Name{unique.Make(added)}
	c.names, c.rows = append(c.names, n), append(c.rows, added)
	return n
}

// NewCatalogue adds rows to the eight. Where some are wrong it says so of each, and holds the others.
func NewCatalogue(rows []Row) (*Catalogue, []RowProblem) {
	c := &Catalogue{slices.Clone(builtIn.names), slices.Clone(builtIn.rows)}
	var problems []RowProblem
	for i, r := range rows {
		if key, text := c.problem(&r); text != "" {
			problems = append(problems, RowProblem{i, key, text})
			continue
		}
		if r.EventType == "" {
			r.EventType = r.Name
		}
		c.add(r.Name, r.Channel, r.Type, r.EventType, r.Description)
	}
	return c, problems
}

var (
	wellFormedName    = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
	wellFormedChannel = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,31}$`)
)

// The bounds of what the configuration may give beside a name and a channel, in bytes.
const (
	maxType        = 64
	maxDescription = 512
)

// problem says what keeps a row from being added, and under which of its keys.
func (c *Catalogue) problem(r *Row) (key, text string) {
	sameName := slices.IndexFunc(c.rows, func(other row) bool { return other.name == r.Name })
	sameType := slices.IndexFunc(c.rows, func(other row) bool {
		return equalFold(other.channel, r.Channel) && equalFold(other.rawType, r.Type)
	})
	switch {
	case !wellFormedName.MatchString(r.Name):
		return "name", "want an upper-case letter and up to 63 of A-Z 0-9 _, as in EMAIL_DELIVERED"
	case !wellFormedChannel.MatchString(r.Channel):
		return "channel", "want an upper-case letter and up to 31 of A-Z 0-9 _, as in EMAIL"
	case r.Type == "" || len(r.Type) > maxType || !printable(r.Type):
		return "type", fmt.Sprintf("want the type of the raw event, 1 to %d printable ASCII characters, as in DELIVERED", maxType)
	case equalFold(r.Type, Ignore):
		return "type", Ignore + " is what a mapping gives for types that are dropped: no event can have it"
	case len(r.EventType) > maxType || !printable(r.EventType):
		return "eventType", fmt.Sprintf("want at most %d printable ASCII characters, as in DELIVERED", maxType)
	case len(r.Description) > maxDescription:
		return "description", fmt.Sprintf("want at most %d bytes", maxDescription)
	case sameName >= 0 && sameName < len(builtIn.rows):
		return "name", "this event name is built in, and built-in rows cannot be changed"
	case sameName >= 0:
		return "name", "given twice: an event name has one row"
	case sameType >= 0:
		return "type", fmt.Sprintf("channel %s and type %s are %s already", r.Channel, r.Type, c.rows[sameType].name)
	case len(c.rows) == MaxNames:
		return "", fmt.Sprintf("more than %d event names, the %d built in among them", MaxNames, len(builtIn.rows))
	}
	return "", ""
}

func printable(s string) bool {
	for _, b := range []byte(s) {
		if b < ' ' || b > '~' {
			return false
		}
	}
	return true
}

// table is c, or what stands for nil.
func (c *Catalogue) table() *Catalogue {
	if c == nil {
		return builtIn
	}
	return c
}

// Names are all event names: those of the product page in its order, then the added ones in theirs. The slice is the caller's.
func (c *Catalogue) Names() []Name { return slices.Clone(c.table().names) }

// Texts are Names, as text.
func (c *Catalogue) Texts() []string {
	var texts []string
	for i := range c.table().rows {
		texts = append(texts, c.table().rows[i].name)
	}
	return texts
}

// Parse is the inverse of Name.String, for a name of the catalogue. It minds the case: a subscription is written by a program.
func (c *Catalogue) Parse(text string) (Name, bool) {
	c = c.table()
	for i := range c.rows {
		if c.rows[i].name == text {
			return c.names[i], true
		}
	}
	return Name{}, false
}

// ParseAny is Parse that takes a well-formed name which the catalogue does not hold, too, as an instance with another catalogue
// may have written it: such a Name has a text and nothing else, and is not Known. It is false for a text that cannot be an event name.
func (c *Catalogue) ParseAny(text string) (Name, bool) {
	if n, ok := c.Parse(text); ok {
		return n, true
	}
	if !wellFormedName.MatchString(text) {
		return Name{}, false
	}
	return Name{unique.Make(row{name: text, bit: unknownBit})}, true
}

// Lookup finds the event name of a raw channel and type, without regard to ASCII case. The name is zero where the
// catalogue has no row; known says whether any event has the channel at all.
func (c *Catalogue) Lookup(channel, rawType string) (name Name, known bool) {
	c = c.table()
	for i := range c.rows {
		if !equalFold(c.rows[i].channel, channel) {
			continue
		}
		if equalFold(c.rows[i].rawType, rawType) {
			return c.names[i], true
		}
		known = true
	}
	return Name{}, known
}

// Channels are the channels that events have, each once, in the catalogue's order. The slice is the caller's.
func (c *Catalogue) Channels() []string {
	var channels []string
	for i := range c.table().rows {
		if ch := c.table().rows[i].channel; !slices.Contains(channels, ch) {
			channels = append(channels, ch)
		}
	}
	return channels
}

// RawTypes are the types that events of the channel have, each once, in the catalogue's order; those of every channel where it
// is empty. There are none for an unknown channel. The slice is the caller's.
func (c *Catalogue) RawTypes(channel string) []string {
	var types []string
	for i := range c.table().rows {
		r := &c.table().rows[i]
		if (channel == "" || equalFold(r.channel, channel)) && !slices.Contains(types, r.rawType) {
			types = append(types, r.rawType)
		}
	}
	return types
}
