package dispatcher

import "sync/atomic"

// load is how many of the process's permits an account, or one of its lanes, uses: now, and lately. It is safe for
// concurrent use.
type load struct {
	held    atomic.Int32 // permits
	average atomic.Int32 // of held over the last ten seconds or so, in thousandths; a minute later little of it is left
}

// sample is called once a second.
func (u *load) sample() {
	const weight = 10
	u.average.Store(int32(((weight-1)*int64(u.average.Load()) + 1000*int64(u.held.Load())) / weight))
}

// now is the load in thousandths of a permit: the attempts in flight, or their average of the last ten seconds where that is
// more. So whoever holds permits for long counts for it, whatever the attempts come to, and for a while after.
func (u *load) now() int64 { return max(1000*int64(u.held.Load()), int64(u.average.Load())) }

// mayTake says whether somebody with such a load may take one of the free permits. Whoever has less than an equal share may
// take any. Beyond that nobody takes more than twice of what is left free, nor any of the last eighth, so that there are
// permits for those who come: an attempt cannot be interrupted, and one may last for ten seconds. load and share are in
// thousandths, limit and free are numbers of permits.
func mayTake(load, share, limit, free int64) bool {
	switch {
	case free <= 0:
		return false
	case load == 0 || load < share:
		return true
	default:
		return free > limit/8 && load < 2000*free
	}
}
