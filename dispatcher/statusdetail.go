package dispatcher

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"fanout/dispatcher/post"
)

// clockSkew is how far a receiver's clock may be from ours without a word: below it no receiver refuses a timestamp.
const clockSkew = 2 * time.Minute

// statusDetail says what a receiver answered, for whoever asks why the delivery fails: where a redirect points, and
// that its clock and ours differ, which makes receivers refuse what is signed now.
func statusDetail(resp *post.Response, now time.Time) string {
	text := statusText(resp.Status)
	switch {
	case resp.Status >= 300 && resp.Status <= 399:
		if to := destination(resp.Location); to != "" {
			text += ", which points to " + to + "; redirects are not followed: set the URL to where it leads"
		}
	case resp.Status == http.StatusBadRequest, resp.Status == http.StatusUnauthorized, resp.Status == http.StatusForbidden:
		if theirs, err := http.ParseTime(resp.Date); err == nil {
			text += skewText(theirs.Sub(now))
		}
	}
	return Detail(text)
}

// destination is the host and path of a Location header; empty where it has none that can be read. What else a URL may
// hold (user info, query, fragment) is often secret.
func destination(location string) string {
	u, err := url.Parse(location)
	switch {
	case err != nil, location == "":
		return ""
	case u.Host != "":
		return u.Host + u.EscapedPath()
	case u.Path != "":
		return u.EscapedPath() + " of the same host"
	}
	return ""
}

func skewText(ahead time.Duration) string {
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	if ahead.Abs() < clockSkew {
		return ""
	}
	return "; the receiver's clock is " + strconv.Itoa(int(ahead.Abs().Round(time.Minute)/time.Minute)) + " min " + direction + " ours, so it may refuse webhook-timestamp"
}

func statusText(status int) string {
	text := http.StatusText(status)
	if text == "" {
		return "HTTP " + strconv.Itoa(status)
	}
	return "HTTP " + strconv.Itoa(status) + " " + text
}
