package topic

import (
	"context"
	"time"
)

// few reads a few records of one partition, by their offsets.
type few struct {
	fetcher *Fetcher
	wanted  []int64 // not seen yet, in order
}

// run calls f with each of the records that there is. What lies beside a record came with it: of deliveries that died together one answer of a
// broker has them all.
func (w *few) run(ctx context.Context, f func(*Record)) error {
	failing := time.Time{}
	for len(w.wanted) > 0 {
		page, err := w.fetcher.Fetch(ctx, w.wanted[0])
		if err == nil {
			failing, err = time.Time{}, w.take(ctx, page, f)
			page.Close()
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case OutOfRange(err):
			w.wanted = w.wanted[1:] // it was deleted meanwhile
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > scanPatience:
			return err
		default:
			Sleep(ctx, 200*time.Millisecond)
		}
	}
	return nil
}

// take hands out what the page has of them, and gives up on what it shows not to exist.
func (w *few) take(ctx context.Context, page *Page, f func(*Record)) error {
	first := w.wanted[0]
	err := page.Each(ctx, func(r *Record) bool {
		w.pass(r.Offset)
		if len(w.wanted) > 0 && w.wanted[0] == r.Offset {
			w.wanted = w.wanted[1:]
			f(r)
		}
		return len(w.wanted) > 0
	})
	if err != nil && len(w.wanted) > 0 && w.wanted[0] == first {
		return err
	}
	w.pass(page.Next())
	if len(w.wanted) > 0 && w.wanted[0] == first { // nothing may be read there, and so nothing behind it
		w.wanted = w.wanted[1:]
	}
	return nil
}

// pass gives up on what lies before the offset.
func (w *few) pass(offset int64) {
	for len(w.wanted) > 0 && w.wanted[0] < offset {
		w.wanted = w.wanted[1:]
	}
}
