package config

import (
	"fmt"
	"io"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const masked = "(set)"

// Dump writes the configuration in force as YAML. Secrets, and those inside URLs, are masked.
func (c *Config) Dump(w io.Writer) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(encoded("", reflect.ValueOf(*c), mask)); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

// encoded is the value as a YAML node, in the order of the fields. show is what is written of the text at a path.
func encoded(path string, value reflect.Value, show func(path, text string) string) *yaml.Node {
	scalar := &yaml.Node{Kind: yaml.ScalarNode, Value: plain(value)}
	if d, ok := reflect.TypeAssert[time.Duration](value); ok {
		scalar.Value = duration(d)
		return scalar
	}
	switch value.Kind() { //nolint:exhaustive // no key has another kind
	case reflect.Struct:
		node := &yaml.Node{Kind: yaml.MappingNode}
		for name, field := range fields(value) {
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, encoded(path+"."+name, field, show))
		}
		return node
	case reflect.Map:
		node := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		names := value.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, name := range names {
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name.String()}, encoded(path, value.MapIndex(name), show))
		}
		return node
	case reflect.Slice:
		node := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for i := range value.Len() {
			node.Content = append(node.Content, encoded(path, value.Index(i), show))
		}
		return node
	case reflect.String:
		scalar.SetString(show(path, value.String()))
	}
	return scalar
}

func mask(path, text string) string {
	if (key{path: path}).secret() && text != "" {
		return masked
	}
	if u, err := url.Parse(text); err == nil && u.User != nil {
		if _, ok := u.User.Password(); ok {
			return u.Redacted()
		}
	}
	return WithoutPasswords(text)
}

// userinfo is user:password@ where it stands before a host, with or without a scheme.
var userinfo = regexp.MustCompile(`([a-zA-Z][\w+.-]*://)?[^\s/@"',:\[\]]*:(?:[^\s@,]*@)+`)

// WithoutPasswords is the text without what is written as user:password@host in it. Somebody who takes an address for a URL
// writes such where no secret is looked for.
func WithoutPasswords(text string) string {
	if !strings.Contains(text, "@") {
		return text
	}
	return userinfo.ReplaceAllString(text, "$1…@")
}
