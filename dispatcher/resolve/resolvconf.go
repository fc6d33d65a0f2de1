package resolve

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The bounds that resolvers keep for what resolv.conf(5) says.
const (
	maxServers  = 3
	maxSearch   = 32
	maxNdots    = 15
	maxTimeout  = 30 * time.Second
	maxAttempts = 5
)

// settings are those of resolv.conf(5).
type settings struct {
	servers       []string // host:port, in the order of the file; never empty
	search        []string // absolute, with the final dot
	ndots         int      // a name with fewer dots is tried with the search list first
	timeout       time.Duration
	attempts      int // how often a server that does not answer is asked, a second apart
	rotate        bool
	tcp           bool // never ask by UDP
	singleRequest bool // never ask for A and AAAA at the same time
	noAAAA        bool
}

// parseSettings reads a resolv.conf. It passes over lines that it does not understand, as resolvers do. Beside an address a
// name server may be given as [address]:port, which OpenBSD has. By default resolvers ask twice and wait for five seconds each
// time; here it is five times, a second apart, so that whoever asks while the servers come back soon has an answer.
func parseSettings(text []byte) settings {
	s := settings{ndots: 1, timeout: 5 * time.Second, attempts: maxAttempts}
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || strings.ContainsAny(fields[0][:1], "#;") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if server, ok := parseServer(fields[1]); ok && len(s.servers) < maxServers {
				s.servers = append(s.servers, server)
			}
		case "domain", "search": // the last of them counts
			s.search = nil
			for _, domain := range fields[1:] {
				if domain = strings.TrimSuffix(domain, "."); domain != "" && len(s.search) < maxSearch {
					s.search = append(s.search, strings.ToLower(domain)+".")
				}
			}
		case "options":
			for _, option := range fields[1:] {
				s.option(option)
			}
		}
	}
	if len(s.servers) == 0 {
		s.servers = []string{"127.0.0.1:53", "[::1]:53"}
	}
	return s
}

func parseServer(text string) (string, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return net.JoinHostPort(a.String(), "53"), true
	}
	if ap, err := netip.ParseAddrPort(text); err == nil && strings.HasPrefix(text, "[") {
		return ap.String(), true
	}
	rest, bracketed := strings.CutPrefix(text, "[") // OpenBSD has brackets around IPv4 addresses too
	host, port, _ := strings.Cut(rest, "]:")
	if ap, err := netip.ParseAddrPort(host + ":" + port); err == nil && bracketed {
		return ap.String(), true
	}
	return "", false
}

func (s *settings) option(option string) {
	name, value, _ := strings.Cut(option, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "ndots" && err == nil:
		s.ndots = min(max(n, 0), maxNdots)
	case name == "timeout" && err == nil:
		s.timeout = min(max(time.Duration(n)*time.Second, time.Second), maxTimeout)
	case name == "attempts" && err == nil:
		s.attempts = min(max(n, 1), maxAttempts)
	case option == "rotate":
		s.rotate = true
	case option == "use-vc", option == "usevc", option == "tcp":
		s.tcp = true
	case option == "single-request", option == "single-request-reopen":
		s.singleRequest = true
	case option == "no-aaaa":
		s.noAAAA = true
	}
}

// candidates is the absolute names to ask for in turn, where the search list applies (resolv.conf(5), ndots).
func (s *settings) candidates(host string) []string {
	absolute := host + "."
	names := make([]string, 0, len(s.search)+1)
	first := strings.Count(host, ".") >= s.ndots
	if first {
		names = append(names, absolute)
	}
	for _, domain := range s.search {
		if name := absolute + domain; len(name) <= maxName {
			names = append(names, name)
		}
	}
	if !first {
		names = append(names, absolute)
	}
	return names
}
