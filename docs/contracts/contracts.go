// Package contracts holds the contracts as files: JSON Schemas and an AsyncAPI document. In the repository they describe the
// built-in events and the five payload keys; [Document] describes those of a configuration.
package contracts

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"fanout/event"
)

//go:embed *.json asyncapi.yaml
var files embed.FS

// Names are the documents that there are: asyncapi, and those of the schemas.
func Names() []string {
	var names []string
	entries, _ := files.ReadDir(".") // it is embedded
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), path.Ext(e.Name())))
	}
	return names
}

// Document is one of them as it holds for the catalogue and the payload's further keys. Without either it is the file.
func Document(name string, c *event.Catalogue, payload []string) ([]byte, error) {
	if name == "asyncapi" {
		text, err := files.ReadFile("asyncapi.yaml")
		return asyncAPI(text, c), err
	}
	text, err := files.ReadFile(name + ".json")
	if err != nil {
		return nil, fmt.Errorf("no document %q", name)
	}
	if len(added(c)) == 0 && len(payload) == 0 {
		return text, nil
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, fmt.Errorf("%s.json: %w", name, err)
	}
	switch name {
	case "payload":
		describePayload(schema, c, payload)
	case "raw-event":
		describeRawEvent(schema, c, payload)
	default:
		addNames(schema, c)
	}
	return json.MarshalIndent(schema, "", "  ")
}

// WithNames is a JSON document in which each list of all built-in event names has the catalogue's others too.
func WithNames(document []byte, c *event.Catalogue) []byte {
	var tree map[string]any
	if len(added(c)) == 0 || json.Unmarshal(document, &tree) != nil {
		return document
	}
	addNames(tree, c)
	text, err := json.MarshalIndent(tree, "", " ")
	if err != nil {
		return document
	}
	return text
}

// added are the catalogue's names that are not built in.
func added(c *event.Catalogue) []event.Name { return c.Names()[len(event.BuiltIn().Names()):] }

// addNames adds the catalogue's names to each list, at or below the node, that holds all built-in ones.
func addNames(node any, c *event.Catalogue) {
	switch node := node.(type) {
	case map[string]any:
		for key, below := range node {
			if list, ok := below.([]any); ok && holdsBuiltIn(list) {
				names := event.BuiltIn().Texts()
				at := slices.Index(list, any(names[len(names)-1])) + 1 // null may follow
				node[key] = slices.Insert(list, at, texts(added(c))...)
				continue
			}
			addNames(below, c)
		}
	case []any:
		for _, below := range node {
			addNames(below, c)
		}
	}
}

func holdsBuiltIn(list []any) bool {
	for _, name := range event.BuiltIn().Texts() {
		if !slices.Contains(list, any(name)) {
			return false
		}
	}
	return true
}

func texts(names []event.Name) (list []any) {
	for _, n := range names {
		list = append(list, n.String())
	}
	return list
}

// describePayload adds what the payload may hold.
func describePayload(schema map[string]any, c *event.Catalogue, payload []string) {
	properties := object(schema, "properties")
	for _, n := range added(c) {
		schema["oneOf"] = append(list(schema, "oneOf"), map[string]any{"properties": map[string]any{
			"channel": map[string]any{"const": n.Channel()}, "eventType": map[string]any{"const": n.PayloadType()},
		}})
		for key, value := range map[string]string{"channel": n.Channel(), "eventType": n.PayloadType()} {
			if known := object(properties, key); !slices.Contains(list(known, "enum"), any(value)) {
				known["enum"] = append(list(known, "enum"), value)
			}
		}
	}
	for _, key := range payload {
		properties[key] = map[string]any{"type": []any{"string", "number", "boolean"}, "description": "Where the raw event has it, after the keys before it."}
	}
	if len(payload) > 0 {
		schema["description"] = "The body of the POST, and the value of retry, replay and dead-letter records: these keys, in the order eventType, trackingId, notificationId, channel, userId, " +
			strings.Join(payload, ", ") + ", without white space, UTF-8. The signature is over these bytes: verify before you parse."
	}
}

// describeRawEvent says which channels and types there are, and what else is read.
func describeRawEvent(schema map[string]any, c *event.Catalogue, payload []string) {
	properties := object(schema, "properties")
	channels := c.Channels()
	patterns := make([]string, len(channels))
	for i, channel := range channels {
		patterns[i] = anyCase(channel)
	}
	object(properties, "channel")["description"] = "One of " + strings.Join(channels, ", ") + ", in any ASCII case."
	object(properties, "channel")["pattern"] = "^(" + strings.Join(patterns, "|") + ")$"
	types := c.RawTypes("")
	object(properties, "type")["description"] = strings.Join(types[:len(types)-1], ", ") + " or " + types[len(types)-1] +
		", in any ASCII case. Any other type, and a type that the channel does not have (SMS OPEN), makes the record ignored: it is counted, never delivered, and never a dead letter."
	for _, key := range payload {
		if properties[key] == nil {
			properties[key] = map[string]any{"description": "Goes into the payload, where it is a string, number or boolean of at most 8192 bytes."}
		}
	}
}

// anyCase is a regular expression for a word in any ASCII case.
func anyCase(word string) string {
	var b strings.Builder
	for _, r := range word {
		if upper, lower := strings.ToUpper(string(r)), strings.ToLower(string(r)); upper != lower {
			b.WriteString("[" + upper + lower + "]")
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func object(node map[string]any, key string) map[string]any {
	below, _ := node[key].(map[string]any)
	return below
}

func list(node map[string]any, key string) []any {
	below, _ := node[key].([]any)
	return below
}

// asyncAPI has the default topics of further channels, too, before what follows those of the built-in ones.
func asyncAPI(document []byte, c *event.Catalogue) []byte {
	var channels, operations strings.Builder
	for _, channel := range c.Channels()[len(event.BuiltIn().Channels()):] {
		id := camel(channel)
		fmt.Fprintf(&channels, "  source%s:\n    address: channel.%s\n    messages: {rawEvent: {$ref: '#/components/messages/rawEvent'}}\n", id, strings.ToLower(channel))
		fmt.Fprintf(&operations, "  read%s:\n    action: receive\n    channel: {$ref: '#/channels/source%s'}\n    summary: Find the subscriptions that want the event, and POST it to them.\n", id, id)
	}
	text := strings.Replace(string(document), "  retry5s:\n    address:", channels.String()+"  retry5s:\n    address:", 1)
	return []byte(strings.Replace(text, "  writeRetry5s:\n", operations.String()+"  writeRetry5s:\n", 1))
}

// camel is WebPush for WEB_PUSH.
func camel(channel string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(channel, "_") {
		if word != "" {
			b.WriteString(word[:1] + strings.ToLower(word[1:]))
		}
	}
	return b.String()
}
