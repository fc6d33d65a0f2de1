package resolve

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxName    = 254  // bytes of an absolute name as text, final dot included
	maxPacket  = 1232 // bytes of a UDP answer that are asked for: less than fits every path (https://dnsflagday.net/2020)
	maxAddrs   = 32   // addresses of one family that are used
	notSaidTTL = 5 * time.Second
)

// question is one question to a server.
type question struct {
	name  dnsmessage.Name
	qtype dnsmessage.Type
}

func newQuestion(name string, qtype dnsmessage.Type) (question, error) {
	n, err := dnsmessage.NewName(name)
	return question{n, qtype}, err
}

// packet is the question as bytes, with the two bytes for its length before it that a stream wants.
func (q question) packet(id uint16, edns bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 2, 512), dnsmessage.Header{ID: id, RecursionDesired: true})
	err := b.StartQuestions()
	if err == nil {
		err = b.Question(dnsmessage.Question{Name: q.name, Type: q.qtype, Class: dnsmessage.ClassINET})
	}
	if err == nil && edns {
		var h dnsmessage.ResourceHeader
		err = errors.Join(h.SetEDNS0(maxPacket, dnsmessage.RCodeSuccess, false), b.StartAdditionals(), b.OPTResource(h, dnsmessage.OPTResource{}))
	}
	if err != nil {
		return nil, err
	}
	packet, err := b.Finish()
	if err != nil {
		return nil, err
	}
	packet[0], packet[1] = byte((len(packet)-2)>>8), byte(len(packet)-2)
	return packet, nil
}

func newID() uint16 { return uint16(rand.Uint32()) }

// reply has the parts that matter of a server's answer to a question.
type reply struct {
	rcode     dnsmessage.RCode
	truncated bool
	referral  bool // neither an answer nor a "no": the server knows only whom else one might ask
	addrs     []netip.Addr
	ttl       time.Duration // of the addresses, or of the answer that there are none
}

// parseReply reads an answer. ok is false where it is none to that question: whatever else arrives on a socket is passed
// over, since it may be forged.
func parseReply(packet []byte, id uint16, q question) (r reply, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil || !h.Response || h.ID != id {
		return r, false
	}
	asked, err := p.Question()
	if err != nil || asked.Type != q.qtype || asked.Class != dnsmessage.ClassINET || !strings.EqualFold(asked.Name.String(), q.name.String()) {
		return r, false
	}
	r.rcode, r.truncated = h.RCode, h.Truncated
	if p.SkipAllQuestions() != nil {
		return r, false
	}
	ttl, answers := uint32(math.MaxUint32), 0
	for ; ; answers++ {
		rh, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return r, r.truncated // of what was cut off the end is missing
		}
		if rh.Type == q.qtype || rh.Type == dnsmessage.TypeCNAME {
			ttl = min(ttl, rh.TTL)
		}
		if !r.answer(&p, rh, q.qtype) {
			return r, r.truncated
		}
	}
	r.ttl = time.Duration(ttl) * time.Second
	if len(r.addrs) == 0 {
		r.ttl = negativeTTL(&p)
		r.referral = answers == 0 && !h.Authoritative && !h.RecursionAvailable
	}
	return r, true
}

// answer takes in one record of the answer. It trusts the server to have sent none but those of the name and its aliases.
func (r *reply) answer(p *dnsmessage.Parser, rh dnsmessage.ResourceHeader, qtype dnsmessage.Type) bool {
	if len(r.addrs) == maxAddrs || rh.Type != qtype {
		return p.SkipAnswer() == nil
	}
	var a netip.Addr
	switch qtype {
	case dnsmessage.TypeA:
		body, err := p.AResource()
		if err != nil {
			return false
		}
		a = netip.AddrFrom4(body.A)
	case dnsmessage.TypeAAAA:
		body, err := p.AAAAResource()
		if err != nil {
			return false
		}
		a = netip.AddrFrom16(body.AAAA).Unmap()
	default:
		return p.SkipAnswer() == nil
	}
	r.addrs = append(r.addrs, a)
	return true
}

// negativeTTL is how long a "no" holds (RFC 2308 section 5), from the zone's SOA record.
func negativeTTL(p *dnsmessage.Parser) time.Duration {
	for {
		rh, err := p.AuthorityHeader()
		if err != nil {
			return notSaidTTL
		}
		if rh.Type != dnsmessage.TypeSOA {
			if p.SkipAuthority() != nil {
				return notSaidTTL
			}
			continue
		}
		soa, err := p.SOAResource()
		if err != nil {
			return notSaidTTL
		}
		return time.Duration(min(rh.TTL, soa.MinTTL)) * time.Second
	}
}
