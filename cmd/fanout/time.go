package main

import (
	"fmt"
	"strconv"
	"time"
)

// clock is a time for people, in their zone.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// shortClock is clock for a table: without the year, where that is this one.
func shortClock(t time.Time) string {
	local := t.Local()
	if local.Year() != time.Now().Year() {
		return local.Format("2006-01-02 15:04")
	}
	return local.Format("01-02 15:04:05")
}

// age is how long ago it was, - where that is unknown.
func age(now time.Time, t *time.Time) string {
	if t == nil {
		return "-"
	}
	return ageText(now.Sub(*t))
}

// ageText is a length of time in two units at most: 45s, 12m, 3h5m, 2d4h. A negative one is 0s.
func ageText(d time.Duration) string {
	d = max(0, d).Round(time.Second)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case d < time.Minute:
		return d.String()
	case d < time.Hour:
		return strconv.Itoa(minutes) + "m"
	case days == 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	}
	return fmt.Sprintf("%dd%dh", days, hours)
}
