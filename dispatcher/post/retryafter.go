package post

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxRetryAfter is the longest wait that a receiver can ask for (DESIGN.md section 3).
const MaxRetryAfter = 24 * time.Hour

// ParseRetryAfter is the wait that a Retry-After header asks for at the time now: seconds, or a date in any of the three
// forms of RFC 9110 section 5.6.7. It lies between 0 (a date that has passed) and MaxRetryAfter; false means that the
// value asks for nothing readable.
func ParseRetryAfter(value string, now time.Time) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	if c := value[0]; '0' <= c && c <= '9' {
		if strings.Trim(value, "0123456789") != "" {
			return 0, false
		}
		seconds, _ := strconv.ParseUint(value, 10, 64) // a number too large for 64 bits comes back as the largest one, and is capped
		return time.Duration(min(seconds, uint64(MaxRetryAfter/time.Second))) * time.Second, true
	}
	t, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(t.Sub(now), 0), MaxRetryAfter), true
}
