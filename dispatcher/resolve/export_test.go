package resolve

import "golang.org/x/net/dns/dnsmessage"

// Remember bounds how many names are remembered.
func (r *Resolver) Remember(most int) { r.most = most }

// Known is how many names are remembered now.
func (r *Resolver) Known() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.names)
}

// Settings is a resolv.conf, read.
type Settings = settings

// ParseSettings reads a resolv.conf.
func ParseSettings(text string) Settings { return parseSettings([]byte(text)) }

// ServersOf, SearchOf and OptionsOf are what it says.
func ServersOf(s Settings) []string { return s.servers }
func SearchOf(s Settings) []string  { return s.search }
func OptionsOf(s Settings) []any {
	return []any{s.ndots, s.timeout, s.attempts, s.rotate, s.tcp, s.singleRequest, s.noAAAA}
}

// CandidatesOf is what a host is asked for as.
func CandidatesOf(s Settings, host string) []string { return s.candidates(host) }

// ParseHosts reads a hosts file.
func ParseHosts(text string) map[string][]string {
	out := map[string][]string{}
	for name, addrs := range parseHosts([]byte(text)) {
		for _, a := range addrs {
			out[name] = append(out[name], a.String())
		}
	}
	return out
}

// ParseReply reads an answer to a question for A records.
func ParseReply(packet []byte, id uint16, name string) (addrs int, ok bool) {
	q, err := newQuestion(name, dnsmessage.TypeA)
	if err != nil {
		return 0, false
	}
	r, ok := parseReply(packet, id, q)
	return len(r.addrs), ok
}
