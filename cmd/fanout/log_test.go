package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"go.uber.org/zap"

	"fanout/config"
)

type nothing struct{}

func (*nothing) Error() string { panic("nobody asks") }

// No line of the log is longer than 16 KiB, whatever is logged, and each can be read.
func TestLogLinesAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("<\x00é\n", 1<<14)
	many := strings.Split(strings.Repeat("channel.email,", 1<<12), ",")
	for name, fields := range map[string][]zap.Field{
		"text":         {zap.String("field", long), zap.Int("n", 7)},
		"error":        {zap.Error(errors.New(long)), zap.Int("n", 7)},
		"nil error":    {zap.Error((*nothing)(nil)), zap.String("field", long), zap.Int("n", 7)},
		"list":         {zap.Strings("topics", many), zap.Int("n", 7)},
		"bytes":        {zap.ByteString("field", []byte(long)), zap.Binary("more", []byte(long)), zap.Int("n", 7)},
		"any":          {zap.Any("field", map[string]string{"a": long}), zap.Int("n", 7)},
		"key":          {zap.String(long, long), zap.Int("n", 7)},
		"many":         append(manyFields(40, long[:400]), zap.Int("n", 7)),
		"far too many": manyFields(4000, "x"),
	} {
		for _, format := range []string{"json", "console"} {
			var out bytes.Buffer
			log := newLogger(config.Log{Level: "info", Format: format}, &out)
			log.Warn("a subscription is invalid", fields...)
			log.With(zap.String("account", long)).Warn("a subscription is invalid", fields...)
			log.Warn(strings.Repeat("é", 1<<15))
			lines := bytes.SplitAfter(out.Bytes(), []byte("\n"))
			if len(lines) != 4 {
				t.Errorf("%s, %s: %d lines, want 3", name, format, len(lines)-1)
			}
			for _, line := range lines[:len(lines)-1] {
				if len(line) > 16<<10 || !utf8.Valid(line) || !bytes.Contains(line, []byte("warn")) {
					t.Errorf("%s, %s: a line of %d bytes: %.200s", name, format, len(line), line)
				}
				if format == "json" && !json.Valid(line) {
					t.Errorf("%s: no JSON: %.200s", name, line)
				}
			}
			if name != "far too many" && !bytes.Contains(lines[0], []byte(`"n":7`)) && !bytes.Contains(lines[0], []byte(`"n": 7`)) {
				t.Errorf("%s, %s: a short field is gone: %.300s", name, format, lines[0])
			}
			if !bytes.Contains(out.Bytes(), []byte("bytes more)")) {
				t.Errorf("%s, %s: nothing says that it was cut", name, format)
			}
		}
	}
	var out bytes.Buffer
	newLogger(config.Log{Level: "info", Format: "json"}, &out).Info("short", zap.String("field", strings.Repeat("x", 15<<10)), zap.Strings("topics", []string{"a", "b"}))
	if !strings.Contains(out.String(), strings.Repeat("x", 15<<10)) || !strings.Contains(out.String(), `["a","b"]`) {
		t.Errorf("a line that is short enough was changed: %.300s", out.String())
	}
}

func manyFields(n int, text string) (list []zap.Field) {
	for i := range n {
		list = append(list, zap.String(fmt.Sprintf("field%d", i), text))
	}
	return list
}

// A subscription of megabytes that is wrong all over is a short line of the log, and a short finding.
func TestInvalidSubscriptionIsShortInTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.redis.HSet("fanout:account:acme", "crm", `{"url":"https://example.com/","events":["`+strings.Repeat(`NO_SUCH_EVENT","`, 1<<13)+`"],"headers":{"`+strings.Repeat("x", 1<<17)+` ":"y"}}`)
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	until(t, func() (bool, string) {
		log := r.log.String()
		return strings.Contains(log, `"crm"`), fmt.Sprintf("%.2000s", log)
	})
	for line := range strings.Lines(r.log.String()) {
		if len(line) > 16<<10 {
			t.Errorf("a line of %d bytes: %.300s", len(line), line)
		}
	}
	for _, command := range [][]string{{"check"}, {"subscriptions", "list"}} {
		if _, stdout, _ := w.fanout(t, "", command...); len(stdout) > 64<<10 || !strings.Contains(stdout, "crm") {
			t.Errorf("%v: %d bytes: %.300s", command, len(stdout), stdout)
		}
	}
}
