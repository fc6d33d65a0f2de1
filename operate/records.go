package operate

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"fanout/event"
	"fanout/topic"
)

// maxRecords bounds how many records findRecords keeps: the newest of each topic's partitions win.
const maxRecords = 100

// findRecords looks through the source topics for the events that a query asks for by account, tracking id, notification id or user id: for
// what led to no delivery there is no attempt. Of a record that cannot be decoded its bytes are judged. The newest come first, a hundred at most.
func findRecords(ctx context.Context, c *topic.Cluster, q *FindQuery, done *atomic.Int64, total func(int64)) ([]*topic.Record, error) {
	sources, err := c.Config().NewSources(nil, nil)
	if err != nil {
		return nil, err
	}
	defer sources.Close()
	var found []*topic.Record
	var mu sync.Mutex // guards found
	looksLike := q.sourceMatcher()
	for _, s := range c.Config().AllSources() {
		ranges, err := c.Ranges(ctx, s.Topic, q.Since)
		if topic.NoTopic(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if total != nil {
			total(topic.Total(ranges))
		}
		wanted := func(_, value []byte) bool { return looksLike(value) }
		err = c.ScanWanted(ctx, s.Topic, ranges, done, wanted, func(r *topic.Record) error {
			if !looksLike(r.Value) || !q.Until.IsZero() && !r.Time.Before(q.Until) {
				return nil
			}
			ev, err := sources.Decode(ctx, r)
			switch {
			case errors.Is(err, topic.ErrRegistryUnavailable):
				return err
			case err == nil && !q.selectsEvent(&ev):
				return nil
			}
			own := r.Clone()
			mu.Lock()
			defer mu.Unlock()
			found = append(found, &own)
			if len(found) > 2*maxRecords {
				found = newestRecords(found)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return newestRecords(found), nil
}

func newestRecords(all []*topic.Record) []*topic.Record {
	slices.SortFunc(all, func(a, b *topic.Record) int { return b.Time.Compare(a.Time) })
	return all[:min(len(all), maxRecords)]
}

// sourceMatcher passes over records whose bytes do not hold what is asked for. A text that JSON may write in several ways is not looked for.
func (q *FindQuery) sourceMatcher() func(value []byte) bool {
	var needles [][]byte
	for _, text := range []string{q.TrackingID, q.UserID, q.NotificationID, q.Account, q.Any} {
		if text != "" && plainText(text) {
			needles = append(needles, []byte(text))
		}
	}
	return func(value []byte) bool {
		for _, needle := range needles {
			if !bytes.Contains(value, needle) {
				return false
			}
		}
		return true
	}
}

// plainText says whether JSON writes the text in one way, as a rule.
func plainText(text string) bool {
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || bytes.IndexByte([]byte(`"\/<>&'`), c) >= 0 {
			return false
		}
	}
	return true
}

func (q *FindQuery) selectsEvent(ev *event.Event) bool {
	return (q.Account == "" || q.Account == ev.Account) && (q.TrackingID == "" || q.TrackingID == ev.TrackingID) &&
		(q.NotificationID == "" || q.NotificationID == ev.NotificationID) && (q.UserID == "" || q.UserID == ev.UserID) &&
		(q.Event == "" || q.Event == ev.Name.String()) &&
		(q.Any == "" || slices.Contains([]string{ev.TrackingID, ev.NotificationID, ev.UserID}, q.Any))
}
