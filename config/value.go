package config

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// reader turns YAML nodes into values and notes what is wrong with them. Text of a variable or a flag is made into a
// node first, so that there is one set of rules.
type reader struct {
	file      string // of the nodes at hand; empty: location is that of all of them
	location  string
	problems  Problems
	locations map[string]string // key path, also of list entries → where its value was given
}

func (r *reader) at(node *yaml.Node) string {
	if r.file == "" {
		return r.location
	}
	return r.file + ":" + strconv.Itoa(node.Line)
}

func (r *reader) wrongf(node *yaml.Node, path, format string, args ...any) {
	value := node.Value
	if (key{path: path}).secret() && value != "" {
		value = masked
	}
	r.problems = append(r.problems, Problem{r.at(node), path, value, fmt.Sprintf(format, args...)})
}

// read is the node's value as t; false where it is wrong, which has been noted.
func (r *reader) read(node *yaml.Node, path string, t reflect.Type) (reflect.Value, bool) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	r.locations[path] = r.at(node)
	value := reflect.New(t).Elem()
	switch t.Kind() { // no key has another kind
	case reflect.Slice:
		return value, r.readList(node, path, value)
	case reflect.Map:
		return value, r.readMap(node, path, value)
	case reflect.Struct:
		return value, r.readStruct(node, path, value)
	default:
		return value, r.readScalar(node, path, value)
	}
}

func (r *reader) readScalar(node *yaml.Node, path string, value reflect.Value) bool {
	if node.Kind != yaml.ScalarNode {
		r.wrongf(node, path, "want one %s here, not a %s", kind(value.Type()), shape(node))
		return false
	}
	text := node.Value
	if value.Type() == reflect.TypeFor[time.Duration]() {
		return r.readDuration(node, path, value)
	}
	switch value.Kind() { // no key has another kind
	case reflect.Bool:
		if text != "true" && text != "false" {
			r.wrongf(node, path, "want true or false")
			return false
		}
		value.SetBool(text == "true")
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			r.wrongf(node, path, "want a whole number, in digits alone")
			return false
		}
		value.SetInt(int64(n))
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			r.wrongf(node, path, "want a number, as in 0.5")
			return false
		}
		value.SetFloat(x)
	default:
		value.SetString(text)
	}
	return true
}

func (r *reader) readDuration(node *yaml.Node, path string, value reflect.Value) bool {
	text := node.Value
	d, err := time.ParseDuration(text)
	if err == nil && (d == 0 || !strings.ContainsAny(text[len(text)-1:], "0123456789")) {
		value.SetInt(int64(d))
		return true
	}
	number, unit := strings.TrimRight(text, "dw"), strings.TrimLeft(text, "0123456789.")
	if _, err := strconv.ParseFloat(number, 64); err != nil {
		r.wrongf(node, path, "want a duration such as 500ms, 10s, 5m or 72h")
		return false
	}
	switch unit {
	case "d", "w":
		r.wrongf(node, path, "days and weeks are not units here: write hours, as in 72h")
	default:
		r.wrongf(node, path, "a duration needs a unit: write %ss for seconds, or %sms", number, number)
	}
	return false
}

func (r *reader) readList(node *yaml.Node, path string, value reflect.Value) bool {
	if node.Kind != yaml.SequenceNode {
		r.wrongf(node, path, "want a list: write [%.100s]", node.Value)
		return false
	}
	ok := true
	value.Set(reflect.MakeSlice(value.Type(), 0, len(node.Content)))
	for i, item := range node.Content {
		one, good := r.read(item, fmt.Sprintf("%s[%d]", path, i), value.Type().Elem())
		ok = ok && good
		value.Set(reflect.Append(value, one))
	}
	return ok
}

func (r *reader) readMap(node *yaml.Node, path string, value reflect.Value) bool {
	value.Set(reflect.MakeMap(value.Type()))
	return r.entries(node, path, func(name, item *yaml.Node) bool {
		one, ok := r.read(item, path+"."+name.Value, value.Type().Elem())
		value.SetMapIndex(reflect.ValueOf(name.Value), one)
		return ok
	})
}

func (r *reader) readStruct(node *yaml.Node, path string, value reflect.Value) bool {
	known := maps.Collect(fields(value))
	return r.entries(node, path, func(name, item *yaml.Node) bool {
		field, ok := known[name.Value]
		if !ok {
			r.unknown(name, path, names(value))
			return false
		}
		one, ok := r.read(item, path+"."+name.Value, field.Type())
		field.Set(one)
		return ok
	})
}

// entries calls each for a mapping's entries that are given once and have a value; false where one was wrong.
func (r *reader) entries(node *yaml.Node, path string, each func(name, item *yaml.Node) bool) bool {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		r.wrongf(node, path, "want keys with values here, not a %s", shape(node))
		return false
	}
	ok, seen := true, map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, item := node.Content[i], node.Content[i+1]
		switch line, twice := seen[name.Value]; {
		case twice:
			r.wrongf(name, path, "given twice, first in line %d", line)
			ok = false
		case item.Tag != "!!null":
			ok = each(name, item) && ok
		}
		seen[name.Value] = name.Line
	}
	return ok
}

func (r *reader) unknown(name *yaml.Node, section string, known []string) {
	path := cmp.Or(name.Value, `""`) // an empty one, or no scalar
	if section != "" {
		path = section + "." + path
	}
	r.problems = append(r.problems, Problem{Location: r.at(name), Key: path, Text: "unknown key" + nearest(name.Value, known)})
}

// text makes a node of a variable's or a flag's text: lists are separated by commas, maps are name=value pairs.
func (r *reader) text(text, path string, t reflect.Type) (reflect.Value, bool) {
	node := &yaml.Node{Kind: yaml.ScalarNode, Value: text}
	switch {
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return r.rows(text, path, t)
	case t.Kind() == reflect.Slice:
		node = &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range items(text) {
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: item})
		}
	case t.Kind() == reflect.Map:
		node = &yaml.Node{Kind: yaml.MappingNode}
		for _, item := range items(text) {
			name, value, ok := strings.Cut(item, "=")
			if !ok {
				r.wrongf(&yaml.Node{Value: item}, path, "want NAME=VALUE pairs, separated by commas")
				return reflect.Value{}, false
			}
			for _, word := range []string{name, value} {
				node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: strings.TrimSpace(word)})
			}
		}
	}
	return r.read(node, path, t)
}

// rows are a list as YAML or JSON; for sources without a mapping, topic names separated by commas too.
func (r *reader) rows(text, path string, t reflect.Type) (reflect.Value, bool) {
	remedy := "want a list in YAML or JSON"
	_, topics := t.Elem().FieldByName("Topic")
	if topics {
		remedy = "want topics separated by commas, or a list in YAML or JSON"
	}
	if topics && !strings.HasPrefix(strings.TrimSpace(text), "[") {
		var topics []string
		for _, topic := range items(text) {
			topics = append(topics, fmt.Sprintf("{topic: %q}", topic))
		}
		text = "[" + strings.Join(topics, ", ") + "]"
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil || len(document.Content) == 0 {
		r.wrongf(&yaml.Node{Value: text}, path, "%s", remedy)
		return reflect.Value{}, false
	}
	return r.read(document.Content[0], path, t)
}

func items(text string) []string {
	var found []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			found = append(found, item)
		}
	}
	return found
}

func shape(node *yaml.Node) string {
	switch node.Kind { //nolint:exhaustive // aliases have been followed
	case yaml.SequenceNode:
		return "list"
	case yaml.MappingNode:
		return "section"
	}
	return "single value"
}
