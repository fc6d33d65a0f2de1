package dispatcher

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher/post"
)

// maxKeptBody bounds the memory of a body that is used again.
const maxKeptBody = 256 << 10

// attemptBatch makes one POST with several deliveries, begun at the time begun, and says what it led to for each of them. Where it
// says nothing they wait again, and no attempt is spent: it failed because of a fault of our own or, large, it was too large.
func (s *sender) attemptBatch(req *request, members []*Delivery, begun time.Time) (outs []Outcome, large bool) {
	first := members[0]
	x, _ := bufferPool.Get().(*buffers)
	defer bufferPool.Put(x)
	if cap(x.body) > maxKeptBody {
		x.body = nil
	}
	x.body = appendBatch(x.body[:0], members)
	id := batchID(members)
	trace, end := Trace{}, func(Outcome) {}
	if s.tracer != nil {
		trace, end = s.tracer.Batch(members, id, req.target.Host, req.target.Port, begun)
	}
	took, err := s.post(req, x, first, id, x.body, trace, begun)
	s.sizes.Observe(float64(len(members)))
	outs = s.batchOutcomes(members, id, err, &x.resp, begun, took)
	if s.isOurs(&req.target, first, begun, err, &x.resp) {
		end(Outcome{Result: Deferred, Reason: Network, Detail: outs[0].Detail, ours: true})
		return nil, false
	}
	end(outs[0])
	if err == nil && len(members) > 1 && tooLarge(x.resp.Status) {
		return nil, true
	}
	return outs, false
}

// batchOutcomes is what an answer means for each delivery of a batch.
func (s *sender) batchOutcomes(members []*Delivery, id string, err error, resp *post.Response, begun time.Time, took time.Duration) []Outcome {
	outs := make([]Outcome, len(members))
	var response []byte // the same for all
	note := ""
	if len(members) > 1 {
		note = " (one of " + strconv.Itoa(len(members)) + " in " + id + ")"
	}
	for i, del := range members {
		out := &outs[i]
		*out = verdictInBatch(s.cfg, del, len(members), err, resp, begun.Add(took))
		out.Took, out.Batch, out.BatchSize = took, id, len(members)
		if out.Attempted = !canceled(err) && out.Reason != BlockedDestination; !out.Attempted {
			out.Batch, out.BatchSize = "", 0
			continue
		}
		if out.Result != Delivered {
			out.Detail = strings.TrimSpace(strings.ToValidUTF8(out.Detail[:min(len(out.Detail), maxDetail-len(note))], "") + note)
		}
		if out.Result != Delivered || del.Stage == stageTest {
			if response == nil {
				response = bytes.Clone(resp.Body)
			}
			out.Response = response
		}
	}
	return outs
}
