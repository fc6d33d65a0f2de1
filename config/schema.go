package config

import (
	"iter"
	"reflect"
	"slices"
	"strings"
	"time"

	"fanout/event"
)

// key is one leaf of the configuration: what has a value of its own.
type key struct {
	path  string // kafka.tls.enabled
	typ   reflect.Type
	value any // the default
}

// secret says whether the value must not be shown, nor be taken from a flag, which every user of the machine can read.
func (k key) secret() bool {
	return strings.HasSuffix(k.path, "password") || strings.HasSuffix(k.path, "token")
}

// variable is the key's environment variable: FANOUT_KAFKA_TLS_ENABLED.
func (k key) variable() string {
	return "FANOUT_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// flag is the key's flag: kafka-tls-enabled.
func (k key) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(k.path) }

// keys are all leaves, in the order of the file.
func keys() []key { return leaves("", reflect.ValueOf(Default())) }

func leaves(prefix string, section reflect.Value) []key {
	var found []key
	for name, field := range fields(section) {
		path := prefix + name
		if field.Kind() == reflect.Struct {
			found = append(found, leaves(path+".", field)...)
			continue
		}
		found = append(found, key{path, field.Type(), field.Interface()})
	}
	return found
}

// fields yields a section's fields under their names in the file, those of squashed structs among them.
func fields(section reflect.Value) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) { eachField(section, yield) }
}

func eachField(section reflect.Value, yield func(string, reflect.Value) bool) bool {
	for field, value := range section.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("mapstructure"), ",")
		switch {
		case options == "squash":
			if !eachField(value, yield) {
				return false
			}
		case name == "" || name == "-": // not a key: what the program sets by itself
		case !yield(name, value):
			return false
		}
	}
	return true
}

// names are the keys of a section.
func names(section reflect.Value) []string {
	var found []string
	for name := range fields(section) {
		found = append(found, name)
	}
	return found
}

// kind names a type for people.
func kind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[[]event.Row]():
		return "rows"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return "topics"
	case t.Kind() == reflect.Slice:
		return kind(t.Elem()) + "s"
	case t.Kind() == reflect.Map:
		return "name=" + kind(t.Elem())
	case t.Kind() == reflect.Float64:
		return "number"
	}
	return t.Kind().String()
}

// find is the key with that path.
func find(all []key, path string) (key, bool) {
	i := slices.IndexFunc(all, func(k key) bool { return k.path == path })
	if i < 0 {
		return key{}, false
	}
	return all[i], true
}
