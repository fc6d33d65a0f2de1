package config

import (
	_ "embed" // for the example
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// FileVariable names the configuration file, where --config does not.
const FileVariable = "FANOUT_CONFIG"

// Example is a commented configuration with every key at its default.
//
//go:embed example.yaml
var Example string

// AddFlags adds a flag for every key but the secrets: kafka.tls.enabled is --kafka-tls-enabled. Load reads those that
// were given.
func AddFlags(flags *pflag.FlagSet) {
	for _, one := range allFlags() {
		flag := flags.VarPF(&flagText{one.kind, one.text}, one.name, "", one.usage)
		if one.toggle {
			flag.NoOptDefVal = "true"
		}
	}
}

// keyFlag is what the flag of a key is made of.
type keyFlag struct {
	flagText
	name, usage string
	toggle      bool // it may stand without a value
}

// allFlags are read from the example once: many commands have them.
//
//nolint:gochecknoglobals // it is worked out once, and the same for ever
var allFlags = sync.OnceValue(func() (all []keyFlag) {
	comments := map[string]string{}
	var document yaml.Node
	if yaml.Unmarshal([]byte(Example), &document) == nil {
		collect("", document.Content[0], comments)
	}
	for _, k := range keys() {
		if !k.secret() {
			text := flagText{kind: kind(k.typ), text: plain(reflect.ValueOf(k.value))}
			all = append(all, keyFlag{text, k.flag(), comments[k.path], k.typ.Kind() == reflect.Bool})
		}
	}
	return all
})

// collect gathers the comment that stands behind each key of the example.
func collect(path string, node *yaml.Node, comments map[string]string) {
	for i := 0; i+1 < len(node.Content) && node.Kind == yaml.MappingNode; i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		comment := value.LineComment
		if comment == "" {
			comment = name.LineComment
		}
		comments[path+name.Value] = strings.TrimPrefix(comment, "# ")
		collect(path+name.Value+".", value, comments)
	}
}

// flagText keeps a flag's text until Load reads it, so that its problems are reported with all others.
type flagText struct{ kind, text string }

func (f *flagText) String() string        { return f.text }
func (f *flagText) Set(text string) error { f.text = text; return nil }
func (f *flagText) Type() string          { return f.kind }

// plain is a value as a flag or a variable spells it.
func plain(value reflect.Value) string {
	if d, ok := reflect.TypeAssert[time.Duration](value); ok {
		return duration(d)
	}
	switch value.Kind() { // no key has another kind
	case reflect.Slice:
		words := make([]string, value.Len())
		for i := range words {
			words[i] = plain(value.Index(i))
		}
		return strings.Join(words, ",")
	case reflect.Map:
		return "" // no default has entries
	default:
		return fmt.Sprint(value.Interface())
	}
}

// duration is the shortest form: 72h rather than 72h0m0s.
func duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
