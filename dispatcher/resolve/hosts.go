package resolve

import (
	"bytes"
	"net/netip"
	"strings"
)

// hosts is what hosts(5) says: the addresses of each name, which is in lower case and without a final dot.
type hosts map[string][]netip.Addr

func parseHosts(text []byte) hosts {
	h := hosts{}
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			h[name] = append(h[name], a.Unmap())
		}
	}
	return h
}

// find is the addresses of a name that is known without asking a server; nil where it is not. "localhost" and what is
// below it are this machine, whatever a server would say (RFC 6761 section 6.3).
func (h hosts) find(host string) []netip.Addr {
	if addrs := h[host]; addrs != nil {
		return addrs
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return []netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return nil
}
