package reach

import (
	"errors"
	"strings"
	"syscall"
)

// Cause is what, beside the receiver, may be at fault where an exchange led to no status. It is a metric label: a closed
// set.
type Cause uint8

// The causes. What the system says is certain; DNS and Proxy are suspicions.
const (
	Receiver Cause = iota // nothing of ours
	System                // no descriptor, no local port, no memory for a socket, no CA roots at all
	DNS                   // the name servers did not say what addresses a name has
	Proxy                 // the egress proxy could not be reached, or would not have us
	causes
)

// String is the cause as a metric label.
func (c Cause) String() string {
	return [causes]string{"receiver", "system", "dns", "proxy"}[c]
}

// SystemFault reports whether an error of a socket says that this machine, or this process, has run out of something. v4
// says that the connection was to an IPv4 address: to an IPv6 one "cannot assign requested address" means that this
// machine has no IPv6.
func SystemFault(err error, v4 bool) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return v4 && errors.Is(err, syscall.EADDRNOTAVAIL)
}

// Place is a receiver, as far as it matters who else shares its fate.
type Place struct {
	Account string
	Host    string // a name without a final dot, or an address
	Rooted  bool   // the search list of the resolver does not apply to it
	Port    uint16
	TLS     bool
	Opened  bool // what egress.allow_cidrs opens is open to the account
}

// zone is the last two labels of the host: what is below fails together when its name servers do.
func (p Place) zone() string {
	host := p.Host
	if i := strings.LastIndexByte(host, '.'); i >= 0 {
		if i = strings.LastIndexByte(host[:i], '.'); i >= 0 {
			return host[i+1:]
		}
	}
	return host
}
