package egress

import "net/netip"

// SpecialPurpose is the ranges that are denied unless they are opened.
func SpecialPurpose() []netip.Prefix { return specialPurpose }
