package operate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"fanout/egress"
	"fanout/subscriptions"
)

// Manifest is what `subscriptions apply` wants to be true (docs/contract.md#commands).
type Manifest struct {
	accounts map[string]map[string]entry // account → subscription id
	problems []string
}

// entry is one subscription of a manifest.
type entry struct {
	place string // file:line
	json  []byte // the subscription (docs/contract.md#subscription-json)
}

const manifestShape = "want {account: A, id: B, url: …, events: […]}, a list of these, or {account: A, subscriptions: {B: {url: …}}}"

// NewManifest makes a manifest that names nothing. Read adds to it.
func NewManifest() *Manifest { return &Manifest{accounts: map[string]map[string]entry{}} }

// Problems is all that is wrong with it, in the order of the files. A manifest with a problem must not be applied.
func (m *Manifest) Problems() []string { return slices.Sorted(slices.Values(m.problems)) }

func (m *Manifest) wrongf(place, format string, args ...any) {
	m.problems = append(m.problems, place+": "+fmt.Sprintf(format, args...))
}

// Read takes in a file's documents. JSON is YAML too. What cannot be understood is among the problems.
func (m *Manifest) Read(file string, data []byte) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			m.wrongf(file, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
			return
		}
		m.node(file, document.Content[0])
	}
}

func (m *Manifest) node(file string, node *yaml.Node) {
	place := fmt.Sprintf("%s:%d", file, node.Line)
	switch {
	case node.Tag == "!!null": // an empty document
		return
	case node.Kind == yaml.SequenceNode:
		for _, item := range node.Content {
			m.node(file, item)
		}
		return
	}
	var fields map[string]yaml.Node
	if err := node.Decode(&fields); err != nil || node.Kind != yaml.MappingNode {
		m.wrongf(place, "%s", manifestShape)
		return
	}
	account, id := fields["account"], fields["id"]
	list, whole := fields["subscriptions"]
	if account.Value == "" || (id.Value == "") == !whole {
		m.wrongf(place, "%s", manifestShape)
		return
	}
	if !whole {
		m.add(file, account.Value, id.Value, node)
		return
	}
	if m.accounts[account.Value] == nil { // an account without any may be meant: --prune then empties it
		m.accounts[account.Value] = map[string]entry{}
	}
	if list.Kind != yaml.MappingNode {
		m.wrongf(fmt.Sprintf("%s:%d", file, list.Line), "%s", manifestShape)
		return
	}
	for i := 0; i+1 < len(list.Content); i += 2 {
		m.add(file, account.Value, list.Content[i].Value, list.Content[i+1])
	}
}

func (m *Manifest) add(file, account, id string, node *yaml.Node) {
	place := fmt.Sprintf("%s:%d", file, node.Line)
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	var fields map[string]any
	if err := node.Decode(&fields); err != nil || node.Kind != yaml.MappingNode {
		m.wrongf(place, "%s/%s: want an object with text keys: {url: …, events: […]}", account, id) // the error would quote values
		return
	}
	delete(fields, "account")
	delete(fields, "id")
	text, err := plainJSON(fields)
	if err != nil {
		m.wrongf(place, "%s/%s: a key in it is not text: write it in quotes", account, id)
		return
	}
	if m.accounts[account] == nil {
		m.accounts[account] = map[string]entry{}
	}
	if first, twice := m.accounts[account][id]; twice {
		m.wrongf(place, "%s/%s is given twice, first at %s", account, id, first.place)
		return
	}
	m.accounts[account][id] = entry{place, text}
}

// complete is what is to be stored: the entry with what it leaves out, or masks, as it is stored, and without secrets that
// have expired. It notes every bad field, the destination's among them, and returns what is odd. What does not change is not
// held to rules that are newer than it.
func (m *Manifest) complete(reader subscriptions.Reader, account, id string, stored []byte, rules *egress.Rules) ([]byte, []subscriptions.FieldProblem) {
	e, name, now := m.accounts[account][id], account+"/"+id, time.Now()
	text, err := subscriptions.Merge(stored, e.json, now)
	if err != nil {
		m.refuse(e.place, name, err)
		return nil, nil
	}
	review, parseURL := reader.ReviewSent(account, id, text, now), rules.ParseURL
	if sameJSON(stored, text) {
		review, parseURL = reader.ReviewStored(account, id, text, now), rules.ParseStoredURL
	}
	var sub struct {
		URL string `json:"url"`
	}
	// A text that is not a URL has been reported already.
	if json.Unmarshal(text, &sub) == nil && sub.URL != "" {
		if _, denied := parseURL(account, sub.URL); denied != nil {
			m.wrongf(e.place, "%s url: %v", name, denied)
		}
	}
	if review.Invalid != nil {
		m.refuse(e.place, name, review.Invalid)
		return nil, nil
	}
	return text, append(review.Warnings, subscriptions.RemovedSecrets(stored, text, now)...)
}

// refuse notes what is wrong with an entry.
func (m *Manifest) refuse(place, name string, err error) {
	bad, ok := errors.AsType[*subscriptions.ValidationError](err)
	if !ok {
		m.wrongf(place, "%s: %v", name, err)
		return
	}
	for _, p := range bad.Problems {
		m.wrongf(place, "%s: %s", strings.TrimSuffix(name+" "+p.Field, " "), p.Problem)
	}
}

// plainJSON keeps <, > and & as they are.
func plainJSON(v any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, fmt.Errorf("make JSON: %w", err)
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}
