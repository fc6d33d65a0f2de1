package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Load reads the configuration: flags (see AddFlags; nil for none) over the variables FANOUT_… of env, over the YAML
// file, over the defaults. A file that is not there is an error only where it was asked for explicitly.
//
// The error is Problems: everything that is wrong, at once. Warnings name variables that mean nothing.
func Load(file string, explicit bool, env []string, flags *pflag.FlagSet) (Config, []Warning, error) {
	r := &reader{locations: map[string]string{}}
	all := keys()
	v := viper.NewWithOptions(viper.ExperimentalBindStruct())
	for _, k := range all {
		v.SetDefault(k.path, k.value)
	}
	// viper folds the case of keys in maps it knows; ours are typed maps, which it leaves alone.
	err := errors.Join(
		v.MergeConfigMap(tree(r.readFile(file, explicit, all))),
		v.MergeConfigMap(tree(r.readEnv(env, all))))
	for path, value := range r.readFlags(flags, all) {
		v.Set(path, value)
	}
	var cfg Config
	if err = errors.Join(err, v.UnmarshalExact(&cfg)); err != nil {
		r.problems = append(r.problems, Problem{Location: file, Text: err.Error()})
	}
	cfg.Redis.Group, cfg.Redis.Catalogue = cfg.Kafka.Group, cfg.Catalogue()
	warnings := unknownVariables(env, all)
	// A key that could not be read has its default here, so that the rest is judged nevertheless.
	r.problems = append(r.problems, validate(&cfg, r.locations)...)
	if len(r.problems) > 0 {
		return cfg, warnings, r.problems
	}
	return cfg, warnings, nil
}

// values are what one source gives: key path → value of the key's type.
type values map[string]any

// tree nests values for viper, which would fold the dots of a flat map otherwise.
func tree(flat values) map[string]any {
	root := map[string]any{}
	for path, value := range flat {
		at, parts := root, strings.Split(path, ".")
		for _, part := range parts[:len(parts)-1] {
			if _, ok := at[part]; !ok {
				at[part] = map[string]any{}
			}
			at, _ = at[part].(map[string]any)
		}
		at[parts[len(parts)-1]] = value
	}
	return root
}

func (r *reader) readFile(file string, explicit bool, all []key) values {
	found := values{}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		return found
	}
	var document yaml.Node
	if err == nil {
		err = yaml.Unmarshal(data, &document)
	}
	if err != nil {
		r.problems = append(r.problems, fileProblem(file, err))
		return found
	}
	if document.Kind == 0 || document.Content[0].Tag == "!!null" { // an empty file
		return found
	}
	r.file = file
	r.readSection(document.Content[0], "", reflect.ValueOf(Default()), all, found)
	return found
}

// readSection reads a section's keys, whatever section lies below it included.
func (r *reader) readSection(node *yaml.Node, path string, section reflect.Value, all []key, found values) {
	known := names(section)
	r.entries(node, path, func(name, item *yaml.Node) bool {
		if !slices.Contains(known, name.Value) {
			r.unknown(name, path, known)
			return false
		}
		below := strings.TrimPrefix(path+"."+name.Value, ".")
		if k, ok := find(all, below); ok {
			value, good := r.read(item, below, k.typ)
			if good {
				found[below] = value.Interface()
			}
			return good
		}
		for key, field := range fields(section) {
			if key == name.Value {
				r.readSection(item, below, field, all, found)
			}
		}
		return true
	})
}

// yamlLine is how the YAML parser names a line.
var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

func fileProblem(file string, err error) Problem {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		return Problem{Location: file + ":" + m[1], Text: "not YAML: " + err.Error()[len(m[0]):]}
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return Problem{Location: file, Text: fmt.Sprintf("%v: name the file with --config", pathErr.Err)}
	}
	return Problem{Location: file, Text: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
}

func (r *reader) readEnv(env []string, all []key) values {
	found, given := values{}, map[string]string{}
	for _, pair := range env {
		name, text, _ := strings.Cut(pair, "=")
		given[name] = text
	}
	for _, k := range all {
		if text := given[k.variable()]; text != "" { // an empty one is as good as none: X=${Y} with no Y
			r.readText(k, text, k.variable(), found)
		}
	}
	return found
}

func (r *reader) readFlags(flags *pflag.FlagSet, all []key) values {
	found := values{}
	if flags == nil {
		return found
	}
	for _, k := range all {
		if flag := flags.Lookup(k.flag()); flag != nil && flag.Changed {
			r.readText(k, flag.Value.String(), "--"+k.flag(), found)
		}
	}
	return found
}

func (r *reader) readText(k key, text, location string, found values) {
	r.file, r.location = "", location
	for path := range r.locations { // what a weaker source gave there counts no more
		if strings.HasPrefix(path, k.path+"[") || strings.HasPrefix(path, k.path+".") {
			delete(r.locations, path)
		}
	}
	if value, ok := r.text(text, k.path, k.typ); ok {
		found[k.path] = value.Interface()
	}
}

// serviceLink is what Kubernetes sets in every pod for a Service named fanout.
var serviceLink = regexp.MustCompile(`^FANOUT_(SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP).*)?)$`)

func unknownVariables(env []string, all []key) []Warning {
	known := []string{FileVariable}
	for _, k := range all {
		known = append(known, k.variable())
	}
	var warnings []Warning
	for _, pair := range env {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "FANOUT_") || slices.Contains(known, name) {
			continue
		}
		hint := nearest(name, known)
		if serviceLink.MatchString(name) {
			hint = " (Kubernetes sets it for a Service named fanout; enableServiceLinks: false keeps it away)"
		}
		warnings = append(warnings, Warning("environment variable "+strconv.Quote(name)+" means nothing to fanout"+hint))
	}
	return warnings
}
