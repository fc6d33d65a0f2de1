package egress

import (
	"encoding/binary"
	"net/netip"
)

// CheckAddr says whether a connection to that address may be opened; nil means yes, else a [*Denied] that does not name
// the address, since a customer must not learn from it what an internal name resolves to. opened says whether the ranges
// of allow_cidrs are open to whom the connection is for: [Target.Opened].
//
// An address that leads to an IPv4 one by way of a translator or tunnel (IPv4-mapped or -compatible, NAT64, 6to4, Teredo)
// must pass for both. NAT64's well-known prefix is judged by the IPv4 address alone: in an IPv6-only network it
// is the way to every receiver that has only IPv4.
func (r *Rules) CheckAddr(a netip.Addr, opened bool) error {
	if !a.IsValid() || a.Zone() != "" {
		return &Denied{"the address cannot be used"}
	}
	a = a.Unmap()
	if a.Is6() {
		for _, v4 := range embedded(a) {
			if err := r.check(v4.addr, v4.exact, opened); err != nil {
				return err
			}
		}
	}
	return r.check(a, !nat64.Contains(a), opened)
}

// check judges one address. Whether it is public matters only where special is set; metadata and the operator's own
// denials always do.
func (r *Rules) check(a netip.Addr, special, opened bool) error {
	switch {
	case within(metadata, a):
		return &Denied{"the address belongs to a cloud metadata service"}
	case within(r.deny, a):
		return &Denied{"the address is denied by the operator"}
	case special && within(specialPurpose, a) && (!opened || !within(r.allow, a)):
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

// embeddedAddr is an IPv4 address that an IPv6 one may lead to. Where it is not exact, the IPv6 address may as well mean
// something else, and only metadata and the operator's denials count.
type embeddedAddr struct {
	addr  netip.Addr
	exact bool
}

// embedded is the IPv4 addresses that an IPv6 one may lead to.
func embedded(a netip.Addr) []embeddedAddr {
	b := a.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	exactly := func(v4 netip.Addr) []embeddedAddr { return []embeddedAddr{{v4, true}} }
	switch {
	case compatible.Contains(a):
		if b[12] == 0 { // the first 2^24 of them are not IPv4 addresses: :: and ::1 are themselves
			return nil
		}
		return exactly(at(12))
	case nat64.Contains(a), siit.Contains(a):
		return exactly(at(12))
	case nat64Local.Contains(a):
		return embeddedLocal(b)
	case sixToFour.Contains(a):
		return exactly(at(2))
	case teredo.Contains(a):
		// RFC 4380 section 4: the server's address, and the client's with its bits inverted.
		client := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, ^binary.BigEndian.Uint32(b[12:]))))
		return []embeddedAddr{{client, true}, {at(4), false}}
	case isISATAP(b):
		return []embeddedAddr{{at(12), false}}
	}
	return nil
}

// embeddedLocal is the IPv4 addresses that one of NAT64's local prefix may lead to. The operator of the translator
// chooses how long a part of the prefix is used, and with it the place of the address (RFC 6052 section 2.2, where byte
// 8 is left out): /48 and /96 are the usual ones, and zeros there mean that it is the other.
func embeddedLocal(b [16]byte) []embeddedAddr {
	var all []embeddedAddr
	for i, v4 := range [][4]byte{
		{b[6], b[7], b[9], b[10]}, [4]byte(b[12:]), // /48, /96
		{b[7], b[9], b[10], b[11]}, [4]byte(b[9:13]), // /56, /64
	} {
		if v4 != [4]byte{} {
			all = append(all, embeddedAddr{netip.AddrFrom4(v4), i < 2})
		}
	}
	return all
}

// isISATAP reports whether the interface identifier is one of RFC 5214 section 6.1: ::5efe:a.b.c.d, with or without the
// bit for a globally unique address.
func isISATAP(b [16]byte) bool {
	return b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

//nolint:gochecknoglobals // constant tables
var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 section 2.5.5.1
	siit       = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 7915
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380

	// metadata are the addresses at which clouds hand out credentials to whoever asks from inside.
	metadata = prefixes(
		"169.254.0.0/16",         // nearly all of them; ECS tasks and EKS pods too
		"168.63.129.16/32",       // Azure's WireServer
		"100.100.100.200/32",     // Alibaba Cloud
		"192.0.0.192/32",         // Oracle Cloud
		"fd00:ec2::/32",          // AWS
		"fd20:ce::254/128",       // Google Cloud
		"fd00:c1::a9fe:a9fe/128", // Oracle Cloud
		"fd00:42::42/128",        // Scaleway
		"fe80::a9fe:a9fe/128",    // OpenStack
	)

	// specialPurpose are the IANA special-purpose registries, with the multicast and reserved space beside them.
	// IPv4-mapped addresses are judged as IPv4, NAT64's well-known prefix by the IPv4 address in it.
	specialPurpose = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
		"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"168.63.129.16/32",
		"::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16",
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
