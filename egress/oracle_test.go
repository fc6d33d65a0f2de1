package egress_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"code.dny.dev/ssrf"

	"fanout/egress"
)

// TestOracle compares the rules with an independent reading of the IANA registries: at both ends of each range that
// either knows, beside these ends, and at random addresses. They differ where it is said here, and nowhere else.
func TestOracle(t *testing.T) {
	ours := rules(t, egress.Config{})
	theirs := ssrf.New()
	oracle := func(a netip.Addr) bool {
		switch a = a.Unmap(); {
		case a == netip.MustParseAddr("168.63.129.16"): // Azure's, in public space
			return false
		case ssrf.IPv6NAT64Prefix.Contains(a): // we look into it, they leave that to the translator
			b := a.As16()
			return theirs.SafeAddr(netip.AddrFrom4([4]byte(b[12:]))) == nil
		case a.Is6() && !ssrf.IPv6GlobalUnicast.Contains(a): // they deny all that IANA has not given out; we, what has a purpose
			return !slices.ContainsFunc(egress.SpecialPurpose(), func(p netip.Prefix) bool { return p.Contains(a) })
		}
		return theirs.SafeAddr(a) == nil
	}
	compared, public := 0, 0
	compare := func(a netip.Addr) {
		want := oracle(a)
		if got := ours.CheckAddr(a, true) == nil; got != want {
			t.Errorf("%v: we let it through: %t, they: %t", a, got, want)
		}
		compared++
		if want {
			public++
		}
	}
	ranges := append(append([]netip.Prefix{ssrf.IPv6GlobalUnicast, ssrf.IPv6NAT64Prefix}, ssrf.IPv4DeniedPrefixes...), ssrf.IPv6DeniedPrefixes...)
	ranges = append(ranges, egress.SpecialPurpose()...)
	for _, p := range ranges {
		first, last := p.Masked().Addr(), lastOf(p)
		for _, a := range []netip.Addr{first, first.Prev(), first.Next(), last, last.Prev(), last.Next()} {
			if a.IsValid() {
				compare(a)
			}
		}
		for range 200 {
			compare(randomIn(p))
		}
	}
	for range 100_000 {
		compare(randomIn(netip.MustParsePrefix("0.0.0.0/0")))
		compare(randomIn(netip.MustParsePrefix("2000::/3")))
	}
	if public < compared/4 || public > compared*9/10 {
		t.Errorf("%d of %d addresses were public: the comparison says little", public, compared)
	}
	t.Logf("%d addresses of %d ranges compared, %d of them public", compared, len(ranges), public)
}

// lastOf is a prefix's last address.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// randomIn is an address of the prefix.
func randomIn(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		if rand.IntN(2) == 1 {
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
