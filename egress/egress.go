// Package egress says where fanout may send a customer's webhook (docs/contract.md#egress-rules).
//
// It promises that no URL and no address passes which the operator has not opened: special-purpose ranges are denied
// unless allow_cidrs names them, for whom allow_accounts names, and cloud metadata stays denied whatever is opened. It
// judges, and connects to nothing: whoever dials must ask [Rules.CheckAddr] about the very address it dials, or DNS rebinding wins.
package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// Config is the section `egress` of the configuration. Its zero value is the default: https only, to public addresses.
type Config struct {
	AllowHTTP  bool     `mapstructure:"allow_http"`     // take http:// URLs too
	AllowCIDRs []string `mapstructure:"allow_cidrs"`    // special-purpose ranges that are open all the same
	Accounts   []string `mapstructure:"allow_accounts"` // whose subscriptions allow_cidrs are for; none: everybody's
	DenyCIDRs  []string `mapstructure:"deny_cidrs"`     // denied on top; wins over allow_cidrs
	Ports      []int    `mapstructure:"ports"`          // instead of 80, 443 and 1024 to 65535
	Search     bool     `mapstructure:"search"`         // apply the resolver's search list to names; else all names are absolute
	Proxy      string   `mapstructure:"proxy"`          // http[s]://[user:password@]host:port that connections go through
	ProxyNames bool     `mapstructure:"proxy_names"`    // give the proxy names to resolve, instead of addresses that were checked

	CAFile         string `mapstructure:"ca_file"`          // PEM file of roots to trust beside the system's
	ClientCertFile string `mapstructure:"client_cert_file"` // PEM files of the certificate that this process shows to
	ClientKeyFile  string `mapstructure:"client_key_file"`  // receivers which ask for one, and of its key
}

// Denied is the error of everything that the rules refuse. Reason is for customers and operators alike: it names what
// the customer wrote, never an address that a name resolved to.
type Denied struct{ Reason string } //nolint:errname // reads better as egress.Denied

// Error is the reason.
func (d *Denied) Error() string { return d.Reason }

// Rules judge URLs and addresses. They are immutable and safe for concurrent use.
type Rules struct {
	allowHTTP   bool
	search      bool
	allow, deny []netip.Prefix
	ports       []uint16
	accounts    map[string]bool // whom allow is for; empty: everybody
	proxy       *Proxy
}

// New compiles the rules. Its error joins every problem of the section, each with its key, its value and a remedy.
func New(c Config) (*Rules, error) {
	r := &Rules{allowHTTP: c.AllowHTTP, search: c.Search}
	var problems []error
	note := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	var err error
	for i, s := range c.AllowCIDRs {
		r.allow, err = appendCIDR(r.allow, fmt.Sprintf("egress.allow_cidrs[%d]", i), s)
		note(err)
	}
	r.accounts = make(map[string]bool, len(c.Accounts))
	for i, account := range c.Accounts {
		note(checkAccount(fmt.Sprintf("egress.allow_accounts[%d]", i), account))
		r.accounts[account] = true
	}
	for i, s := range c.DenyCIDRs {
		r.deny, err = appendCIDR(r.deny, fmt.Sprintf("egress.deny_cidrs[%d]", i), s)
		note(err)
	}
	for i, p := range c.Ports {
		if p < 1 || p > 65535 {
			note(fmt.Errorf("egress.ports[%d]: %d is not a port; use 1 to 65535", i, p))
			continue
		}
		r.ports = append(r.ports, uint16(p))
	}
	r.proxy, err = parseProxy(c)
	note(err)
	if (c.ClientCertFile == "") != (c.ClientKeyFile == "") {
		note(errors.New("egress.client_cert_file: a certificate needs its key; give client_cert_file and client_key_file, or neither"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return r, nil
}

// Search reports whether the resolver's search list applies to names.
func (r *Rules) Search() bool { return r.search }

// opensFor reports whether what allow_cidrs opens is open to the account's subscriptions too (docs/contract.md#allow-accounts).
func (r *Rules) opensFor(account string) bool { return len(r.accounts) == 0 || r.accounts[account] }

// checkAccount says what is wrong with something that is to be an account's id (docs/contract.md#account-id). The list would
// hold it and never match.
func checkAccount(key, account string) error {
	if account == "" || len(account) > 256 || strings.ContainsFunc(account, unicode.IsControl) {
		return fmt.Errorf("%s: %.40q is not an account id; write 1 to 256 bytes without control characters", key, account)
	}
	return nil
}

func (r *Rules) portOpen(port uint16) bool {
	if len(r.ports) > 0 {
		return slices.Contains(r.ports, port)
	}
	return port == 80 || port == 443 || port >= 1024
}

// appendCIDR appends the prefix that s spells, an IPv4-mapped one as the IPv4 prefix it means, since that is how
// addresses are compared.
func appendCIDR(to []netip.Prefix, key, s string) ([]netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return to, fmt.Errorf("%s: %q is not a CIDR; write it as %s", key, s, cidrRemedy(s))
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return to, fmt.Errorf("%s: %q spans more than the IPv4-mapped range; write it as an IPv4 CIDR", key, s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return append(to, p.Masked()), nil
}

// cidrRemedy guesses what was meant: a bare address is itself alone, a prefix that is too long is most often a typo.
func cidrRemedy(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()).String()
	}
	return "10.0.0.0/8 or fd00::/8"
}
