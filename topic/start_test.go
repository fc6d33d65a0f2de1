package topic_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"fanout/topic"
)

// What is to be decided, by what is known of the sources.
func TestGuard(t *testing.T) {
	t.Parallel()
	begun := topic.SourceStart{Topic: "begun", Begun: true}
	old := topic.SourceStart{Topic: "old", History: true, Records: 7}
	decided := topic.SourceStart{Topic: "decided", History: true, Start: "latest"}
	young := topic.SourceStart{Topic: "young", Records: 3}
	unset := topic.SourceStart{Topic: "unset", Begun: true, History: true}
	for name, c := range map[string]struct {
		starts []topic.SourceStart
		unread []string
		ends   bool
	}{
		"nothing exists":                {nil, nil, false},
		"all are begun":                 {[]topic.SourceStart{begun, unset}, nil, false},
		"a first run without history":   {[]topic.SourceStart{young}, nil, false},
		"a first run with history":      {[]topic.SourceStart{young, old}, []string{"old"}, true},
		"a first run that is decided":   {[]topic.SourceStart{decided, young}, nil, false},
		"decided for one source alone":  {[]topic.SourceStart{decided, old}, []string{"old"}, true},
		"a source added to a group":     {[]topic.SourceStart{begun, old, young}, []string{"old"}, false},
		"a decided one added to it":     {[]topic.SourceStart{begun, decided}, nil, false},
		"two sources added to a group":  {[]topic.SourceStart{old, begun, {Topic: "older", History: true}}, []string{"old", "older"}, false},
		"a first run with two of these": {[]topic.SourceStart{old, {Topic: "older", History: true}}, []string{"old", "older"}, true},
	} {
		unread, err := topic.Guard("g", c.starts)
		undecided, ended := errors.AsType[*topic.UndecidedError](err)
		if ended {
			unread = undecided.Sources
		}
		var names []string
		for _, s := range unread {
			names = append(names, s.Topic)
		}
		if ended != c.ends || !slices.Equal(names, c.unread) {
			t.Errorf("%s: %v, ends %t", name, names, ended)
		}
	}
}

// What a partition's offsets say of what it holds.
func TestSurvey(t *testing.T) {
	t.Parallel()
	type row struct{ first, end, young, future, start int64 }
	for name, c := range map[string]struct {
		row
		records, ahead int64
		history        bool
	}{
		"empty":                          {row{0, 0, -1, -1, 0}, 0, 0, false},
		"emptied":                        {row{9, 9, -1, -1, 9}, 0, 0, false},
		"young":                          {row{0, 5, 0, -1, 0}, 5, 5, false},
		"old and young":                  {row{2, 9, 6, -1, 2}, 7, 7, true},
		"old alone":                      {row{2, 9, -1, -1, 2}, 7, 7, true},
		"latest":                         {row{2, 9, -1, -1, 9}, 7, 0, true},
		"a time":                         {row{2, 9, -1, -1, 6}, 7, 3, true},
		"a time before the first record": {row{2, 9, -1, -1, 0}, 7, 7, true},
		"begun where more came":          {row{2, 9, 2, -1, 12}, 7, 0, false},
		"the first is dated ahead":       {row{0, 5, 0, 0, 0}, 5, 5, true},
		"a later one is dated ahead":     {row{0, 5, 0, 3, 0}, 5, 5, false},
	} {
		records, ahead, history := topic.Survey(c.first, c.end, c.young, c.future, c.start)
		if records != c.records || ahead != c.ahead || history != c.history {
			t.Errorf("%s: %d records, %d ahead, history %t", name, records, ahead, history)
		}
	}
}

// What is said of a source is right with one record, with many, and where it is not known from when they are.
func TestHolds(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	want := map[string]topic.SourceStart{
		"about 0 records": {},
		"about 1 record":  {Records: 1},
		"about 1 record, from 2026-01-31T08:00:00Z":              {Records: 1, Oldest: at},
		"about 12 records, the oldest from 2026-01-31T08:00:00Z": {Records: 12, Oldest: at},
	}
	for _, text := range slices.Sorted(maps.Keys(want)) {
		if s := want[text]; s.Holds() != text {
			t.Errorf("%q, want %q", s.Holds(), text)
		}
	}
}
