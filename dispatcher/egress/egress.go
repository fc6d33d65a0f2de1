// Package egress says where fanout may send a customer's webhook (DESIGN.md section 3, "Egress rules").
//
// It promises that no URL and no address passes which the operator has not opened: special-purpose ranges are denied
// unless allow_cidrs names them, and cloud metadata stays denied whatever is opened. It judges, and connects to
// nothing: whoever dials must ask [Rules.CheckAddr] about the very address it dials, or DNS rebinding wins.
package egress

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
)

// Config is the section `egress` of the configuration. Its zero value is the default: https only, to public addresses.
type Config struct {
	AllowHTTP  bool     `mapstructure:"allow_http"`  // take http:// URLs too
	AllowCIDRs []string `mapstructure:"allow_cidrs"` // special-purpose ranges that are open all the same
	DenyCIDRs  []string `mapstructure:"deny_cidrs"`  // denied on top; wins over allow_cidrs
	Ports      []int    `mapstructure:"ports"`       // instead of 80, 443 and 1024 to 65535
	Proxy      string   `mapstructure:"proxy"`       // http://[user:password@]host:port that connections go through
}

// Denied is the error of everything that the rules refuse. Reason is for customers and operators alike: it names what
// the customer wrote, never an address that a name resolved to.
type Denied struct{ Reason string } //nolint:errname // reads better as egress.Denied

// Error is the reason.
func (d *Denied) Error() string { return d.Reason }

// Proxy is an HTTP proxy that understands CONNECT. Its own address is exempt from the rules.
type Proxy struct {
	Host          string // a name or an address, without brackets
	Port          uint16
	Authorization string // value of Proxy-Authorization; empty where the URL has no user info
}

// Rules judge URLs and addresses. They are immutable and safe for concurrent use.
type Rules struct {
	allowHTTP   bool
	allow, deny []netip.Prefix
	ports       []uint16
	proxy       *Proxy
}

// New compiles the rules. Its error joins every problem of the section, each with its key, its value and a remedy.
func New(c Config) (*Rules, error) {
	r := &Rules{allowHTTP: c.AllowHTTP}
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
	for i, s := range c.DenyCIDRs {
		r.deny, err = appendCIDR(r.deny, fmt.Sprintf("egress.deny_cidrs[%d]", i), s)
		note(err)
	}
	for i, p := range c.Ports {
		if p < 1 || p > 65535 {
			note(fmt.Errorf("egress.ports[%d]: %d is no port; use 1 to 65535", i, p))
			continue
		}
		r.ports = append(r.ports, uint16(p))
	}
	r.proxy, err = parseProxy(c.Proxy)
	note(err)
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return r, nil
}

// Proxy is the proxy to go through; nil means to connect directly.
func (r *Rules) Proxy() *Proxy { return r.proxy }

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
		return to, fmt.Errorf("%s: %q is no CIDR; write it as %s", key, s, cidrRemedy(s))
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

func parseProxy(s string) (*Proxy, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no proxy is a valid configuration
	}
	// The value may hold a password, so neither it nor url.Parse's error, which quotes it, is shown.
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("egress.proxy: the value is no proxy URL; write it as http://host:port or http://user:password@host:port")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("egress.proxy: %q has no port; write it as http://host:port", net.JoinHostPort(u.Hostname(), u.Port()))
	}
	p := &Proxy{Host: u.Hostname(), Port: uint16(port)}
	if u.User != nil {
		password, _ := u.User.Password()
		p.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	return p, nil
}
