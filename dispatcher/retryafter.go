package dispatcher

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxRetryAfter is the longest wait that a receiver can ask for.
const MaxRetryAfter = 24 * time.Hour

// The numbers that are taken for a time rather than for a wait: Unix seconds, and milliseconds, of the years 2001 to 2286.
const (
	leastEpoch = 1_000_000_000
	mostEpoch  = 10 * leastEpoch
)

// ParseRetryAfter is the wait that a Retry-After header asks for at the time now, between 0 (a time that has passed) and
// MaxRetryAfter. Read are seconds, decimals being rounded up; the dates of RFC 9110, also with UTC or a numeric zone for GMT;
// and Unix seconds and milliseconds. False means that the value asks for nothing readable.
func ParseRetryAfter(value string, now time.Time) (time.Duration, bool) {
	if whole, fraction, decimal := strings.Cut(value, "."); digits(whole) && (!decimal || digits(fraction)) {
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil { // too large for a float: longer than anybody may ask for
			return MaxRetryAfter, true
		}
		if seconds >= 1000*leastEpoch && seconds < 1000*mostEpoch {
			seconds /= 1000
		}
		if seconds >= leastEpoch && seconds < mostEpoch {
			seconds -= float64(now.UnixMilli()) / 1000
		}
		return bounded(math.Ceil(seconds)), true
	}
	t, err := parseDate(value)
	if err != nil {
		return 0, false
	}
	return bounded(t.Sub(now).Seconds()), true
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func bounded(seconds float64) time.Duration {
	return time.Duration(min(max(seconds, 0), MaxRetryAfter.Seconds()) * float64(time.Second))
}

// parseDate reads a date in one of the three forms of RFC 9110 section 5.6.7, also where its zone is not GMT.
func parseDate(value string) (time.Time, error) {
	if rest, utc := strings.CutSuffix(value, " UTC"); utc {
		value = rest + " GMT"
	}
	t, err := http.ParseTime(value)
	for _, layout := range [...]string{time.RFC1123Z, "Monday, 02-Jan-06 15:04:05 -0700"} {
		if err != nil {
			t, err = time.Parse(layout, value)
		}
	}
	return t, err
}
