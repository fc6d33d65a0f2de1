package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"fanout/config"
)

// docs/reference/configuration.md says what config/example.yaml and the flags say: go test ./docs -run Reference -update
// writes it. That the example has every key at its default is a test of package config.
func TestConfigurationReference(t *testing.T) {
	t.Parallel()
	file := filepath.Join("reference", "configuration.md")
	want := configurationReference(t)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(read(t, file), "\n")); diff != "" {
		t.Errorf("docs/reference/configuration.md has drifted; write it again with go test ./docs -run Reference -update\nthe configuration (-), the page (+):\n%s", diff)
	}
}

// Every key of the configuration has its line, with what it is for.
func TestConfigurationReferenceIsWhole(t *testing.T) {
	t.Parallel()
	page := read(t, "reference", "configuration.md")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(flags)
	count := 0
	flags.VisitAll(func(f *pflag.Flag) {
		count++
		if f.Usage == "" || !strings.Contains(page, "`--"+f.Name+"`") {
			t.Errorf("--%s is not on the page, or config/example.yaml does not say what it is for", f.Name)
		}
	})
	if count < 40 {
		t.Errorf("only %d keys", count)
	}
}

func configurationReference(t *testing.T) string {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(config.Example), &document); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(flags)
	var b bytes.Buffer
	b.WriteString("# Configuration\n\n<!-- Generated from config/example.yaml: go test ./docs -run Reference -update -->\n\n" +
		"A flag wins over an environment variable, which wins over the YAML file (`--config`, or `FANOUT_CONFIG`; default\n" +
		"`fanout.yaml`, if it is there). An unknown key in the file is an error, an unknown `FANOUT_*` variable a warning. All\n" +
		"problems are reported together. `fanout check -v` shows the configuration in force, without its secrets.\n\n" +
		"Durations have units: `500ms`, `10s`, `5m`, `72h`. Lists are separated by commas in flags and variables. Secrets have no\n" +
		"flag, since every user of a machine can see flags. [config/example.yaml](../../config/example.yaml) is the same as a file.\n")
	top := document.Content[0]
	for i := 0; i+1 < len(top.Content); i += 2 {
		name, value := top.Content[i], top.Content[i+1]
		if value.Kind != yaml.MappingNode || len(value.Content) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n", name.Value)
		configurationTable(&b, flags, name.Value, value)
	}
	b.WriteString("\n## Without a section\n")
	rest := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(top.Content); i += 2 {
		if value := top.Content[i+1]; value.Kind != yaml.MappingNode || len(value.Content) == 0 {
			rest.Content = append(rest.Content, top.Content[i], value)
		}
	}
	configurationTable(&b, flags, "", rest)
	for i := 0; i+1 < len(top.Content); i += 2 {
		if name := top.Content[i]; name.HeadComment != "" && name.Value == "sources" {
			fmt.Fprintf(&b, "\n### sources\n\n```yaml\n%s\n```\n", name.HeadComment)
		}
	}
	return b.String()
}

func configurationTable(b *bytes.Buffer, flags *pflag.FlagSet, section string, node *yaml.Node) {
	b.WriteString("\n| key | default | | flag, variable |\n| --- | --- | --- | --- |\n")
	configurationRows(b, flags, section, node)
}

func configurationRows(b *bytes.Buffer, flags *pflag.FlagSet, path string, node *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		key := strings.TrimPrefix(path+"."+name.Value, ".")
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 {
			configurationRows(b, flags, key, value)
			continue
		}
		comment := value.LineComment
		if comment == "" {
			comment = name.LineComment
		}
		shown, where := "`"+inlineYAML(value)+"`", "`FANOUT_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))+"`"
		if shown == "``" {
			shown = ""
		}
		if flag := strings.NewReplacer(".", "-", "_", "-").Replace(key); flags.Lookup(flag) != nil {
			where = "`--" + flag + "`, " + where
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, shown, strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(strings.TrimPrefix(comment, "# ")), where)
	}
}

// inlineYAML is a value as the example has it.
func inlineYAML(node *yaml.Node) string {
	if node.Kind == yaml.ScalarNode {
		return node.Value
	}
	plain := *node
	plain.Style, plain.LineComment, plain.HeadComment = yaml.FlowStyle, "", ""
	text, err := yaml.Marshal(&plain)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
