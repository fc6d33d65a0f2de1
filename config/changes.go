package config

import (
	"bytes"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// Changes is the configuration as a YAML file that Load reads as this very configuration: each key whose value is not the
// default, secrets in the clear. The file is for its owner only.
func (c *Config) Changes() ([]byte, error) {
	node := encoded("", reflect.ValueOf(*c), asIs)
	prune(node, encoded("", reflect.ValueOf(Default()), asIs))
	dropEmpty(node)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(node); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return out.Bytes(), nil
}

// asIs shows a text, be it a secret.
func asIs(_, text string) string { return text }

// prune takes out of a section what another one has too.
func prune(section, other *yaml.Node) {
	var kept []*yaml.Node
	for i := 0; i+1 < len(section.Content); i += 2 {
		name, value := section.Content[i], section.Content[i+1]
		than := valueOf(other, name.Value)
		if than == nil || !isSection(value) {
			if !equal(value, than) {
				kept = append(kept, name, value)
			}
			continue
		}
		if prune(value, than); len(value.Content) > 0 {
			kept = append(kept, name, value)
		}
	}
	section.Content = kept
}

// dropEmpty takes out of the entries of lists what is empty, which is the default of each of their keys.
func dropEmpty(node *yaml.Node) {
	for _, entry := range node.Content {
		if node.Kind == yaml.SequenceNode && entry.Kind == yaml.MappingNode {
			var kept []*yaml.Node
			for i := 0; i+1 < len(entry.Content); i += 2 {
				if value := entry.Content[i+1]; value.Value != "" || len(value.Content) > 0 {
					kept = append(kept, entry.Content[i], value)
				}
			}
			entry.Content = kept
		}
		dropEmpty(entry)
	}
}

// isSection tells a section of the configuration from a map that is a key's value.
func isSection(node *yaml.Node) bool {
	return node.Kind == yaml.MappingNode && node.Style != yaml.FlowStyle
}

func valueOf(section *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(section.Content); i += 2 {
		if section.Content[i].Value == name {
			return section.Content[i+1]
		}
	}
	return nil
}

func equal(a, b *yaml.Node) bool {
	if b == nil || a.Kind != b.Kind || a.Value != b.Value || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !equal(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}
