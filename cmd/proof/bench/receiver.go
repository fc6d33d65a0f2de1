package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	receiverPart   = "receiver"
	trackPrefix    = "track-"      // trackingId of event number i is track-<i>
	openPath       = "/open"       // answers how many requests have been open at most at once
	againPath      = "/again"      // answers how many requests were for an event that had come before
	securePath     = "/secure"     // answers the address of the HTTPS side
	handshakesPath = "/handshakes" // answers how many handshakes of TLS were full, and how many resumed a session
	timesPath      = "/times"      // answers, for each event, when its first request came, as big-endian Unix nanoseconds
)

// receive is the part of that name. It runs as a process of its own, so that what the producer does in its process (and
// what its garbage collector does) is not a part of what is measured.
func receive(ctx context.Context, args []string, _ io.Writer) error {
	fs := flag.NewFlagSet(receiverPart, flag.ContinueOnError)
	listen := fs.String("listen", "127.0.0.1:0", "address")
	events := fs.Int("events", 0, "events to come")
	bad := fs.Int("bad", 0, "how many of the paths /hooks/0, /hooks/1, … misbehave")
	delay := fs.Duration("delay", 0, "how long they take to answer; 0 means that they never do")
	ca := fs.String("ca", "", "serve HTTPS on all loopback addresses too, and write the authority's certificate to this file")
	if err := fs.Parse(args); err != nil {
		return err
	}
	times := make([]atomic.Int64, *events)
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	var (
		open, most, again atomic.Int64
		https             secure
		stopped           = ctx
	)
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		now := time.Now().UnixNano()
		if string(ctx.Path()) == timesPath {
			body := make([]byte, 0, 8*len(times))
			for i := range times {
				body = binary.BigEndian.AppendUint64(body, uint64(times[i].Load())) // after 1970
			}
			ctx.SetBody(body)
			return
		}
		if string(ctx.Path()) == openPath {
			ctx.SetBody(strconv.AppendInt(nil, most.Load(), 10))
			return
		}
		if string(ctx.Path()) == againPath {
			ctx.SetBody(strconv.AppendInt(nil, again.Load(), 10))
			return
		}
		if string(ctx.Path()) == securePath {
			ctx.SetBodyString(https.url)
			return
		}
		if string(ctx.Path()) == handshakesPath {
			ctx.SetBodyString(fmt.Sprint(https.full.Load(), https.resumed.Load()))
			return
		}
		here := open.Add(1)
		defer open.Add(-1)
		for seen := most.Load(); here > seen && !most.CompareAndSwap(seen, here); {
			seen = most.Load()
		}
		if crowded(stopped, ctx) {
			return
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(string(ctx.Path()), "/hooks/")); err == nil && n < *bad {
			if *delay == 0 {
				<-stopped.Done()
				return
			}
			time.Sleep(*delay)
		}
		if i, ok := trackNumber(ctx.PostBody()); ok && i < len(times) {
			if !times[i].CompareAndSwap(0, now) {
				again.Add(1)
			}
		}
		ctx.SetStatusCode(fasthttp.StatusNoContent)
	}}
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	if *ca != "" {
		over, err := https.listen(*ca)
		if err != nil {
			return err
		}
		defer context.AfterFunc(ctx, func() { _ = over.Close() })()
		go server.Serve(over) //nolint:errcheck // it ends with the process
	}
	if err := server.Serve(ln); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

// crowded answers a webhook of a crowd; false where it is none.
func crowded(stopped context.Context, ctx *fasthttp.RequestCtx) bool {
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	switch path := string(ctx.Path()); {
	case strings.HasPrefix(path, pathFast):
	case strings.HasPrefix(path, pathSlow):
		time.Sleep(crowdDelay)
	case strings.HasPrefix(path, pathFailing):
		time.Sleep(crowdDelay)
		ctx.SetStatusCode(fasthttp.StatusInternalServerError)
	case strings.HasPrefix(path, pathHangs):
		<-stopped.Done()
	default:
		return false
	}
	return true
}

// trackNumber finds the event's number in a payload.
func trackNumber(body []byte) (int, bool) {
	_, rest, found := bytes.Cut(body, []byte(`"trackingId":"`+trackPrefix))
	digits, _, ended := bytes.Cut(rest, []byte(`"`))
	if !found || !ended {
		return 0, false
	}
	n, err := strconv.Atoi(string(digits))
	return n, err == nil && n >= 0
}
