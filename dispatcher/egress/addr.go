package egress

import (
	"encoding/binary"
	"net/netip"
)

// CheckAddr says whether a connection to that address may be opened; nil means yes, else a [*Denied] that does not name
// the address, since a customer must not learn from it what an internal name resolves to.
//
// An address that carries an IPv4 one (IPv4-mapped or -compatible, NAT64, 6to4, Teredo) must pass for both.
func (r *Rules) CheckAddr(a netip.Addr) error {
	if !a.IsValid() || a.Zone() != "" {
		return &Denied{"the address cannot be used"}
	}
	a = a.Unmap()
	if v4, ok := embedded(a); ok {
		if err := r.check(v4); err != nil {
			return err
		}
	}
	return r.check(a)
}

func (r *Rules) check(a netip.Addr) error {
	switch {
	case within(metadata, a):
		return &Denied{"the address belongs to a cloud metadata service"}
	case within(r.deny, a):
		return &Denied{"the address is denied by the operator"}
	case within(special, a) && !within(r.allow, a):
		return &Denied{"the address is not public"}
	}
	return nil
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// embedded is the IPv4 address that an IPv6 one leads to by way of a translator or tunnel.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if a.Is4() {
		return a, false
	}
	b := a.As16()
	at := func(i int) (netip.Addr, bool) { return netip.AddrFrom4([4]byte(b[i : i+4])), true }
	switch {
	case compatible.Contains(a):
		// The first 2^24 of them are no IPv4 addresses: :: and ::1 are themselves.
		v4, _ := at(12)
		return v4, b[12] != 0
	case nat64.Contains(a), nat64Local.Contains(a), siit.Contains(a):
		return at(12)
	case sixToFour.Contains(a):
		return at(2)
	case teredo.Contains(a):
		binary.BigEndian.PutUint32(b[12:], ^binary.BigEndian.Uint32(b[12:])) // RFC 4380 section 4: the client's, inverted
		return at(12)
	}
	return netip.Addr{}, false
}

//nolint:gochecknoglobals // constant tables
var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 section 2.5.5.1
	siit       = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 7915
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215; the address stands last where the prefix is a /96
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380

	metadata = prefixes("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::254/128")

	// The IANA special-purpose registries and the multicast and reserved space beside them; IPv4-mapped addresses are
	// judged as IPv4.
	special = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
		"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"168.63.129.16/32",
		"::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16",
		"2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	)
)

func prefixes(cidrs ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(cidrs))
	for i, s := range cidrs {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}
