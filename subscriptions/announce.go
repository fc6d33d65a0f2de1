package subscriptions

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"time"
)

// Announcement is where an instance can be asked, as its heartbeat has it (docs/contract.md#advertise).
type Announcement struct {
	Instance string `json:"instance"` // what it calls itself
	URL      string `json:"url"`      // of its admin listener
	MAC      string `json:"mac"`      // of both, of its field in Redis and of the heartbeat's number
}

// Instance is a running instance that has announced itself, with a right MAC.
type Instance struct {
	Name, URL string
	Seen      time.Time // when it gave its last sign of life, by its own clock
}

// bounds of what another's heartbeat may say of itself.
const maxAnnounced = 512

// announcementMAC is keyed from admin.token: whoever can write to Redis, and does not know the token, sends nobody anywhere.
func announcementMAC(key []byte, self string, number int64, a *Announcement) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range []string{self, a.Instance, a.URL} {
		mac.Write(binary.AppendUvarint(nil, uint64(len(part))))
		mac.Write([]byte(part))
	}
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(number)))
	return mac.Sum(nil)
}

// announced is the instance that a heartbeat announces; false where it announces none, or has no right MAC.
func (h *heartbeat) announced(key []byte, self string) (Instance, bool) {
	a := h.Admin
	if key == nil || a == nil || len(a.Instance) > maxAnnounced || len(a.URL) > maxAnnounced {
		return Instance{}, false
	}
	mac, err := base64.RawURLEncoding.DecodeString(a.MAC)
	if err != nil || !hmac.Equal(mac, announcementMAC(key, self, h.Number, a)) {
		return Instance{}, false
	}
	return Instance{Name: a.Instance, URL: a.URL, Seen: time.Unix(0, h.Number)}, true
}

// Announce lets every heartbeat say where this instance can be asked; an empty url announces nothing. With the key the others' announcements
// are judged. It must be called before Run.
func (p *Peers) Announce(instance, url string, key []byte) {
	p.key = key
	if url != "" && key != nil {
		p.announcement = &Announcement{Instance: instance, URL: url}
	}
}

// heartbeat is this instance's word of itself now.
func (p *Peers) heartbeat(own Demand) heartbeat {
	h := heartbeat{Number: time.Now().UnixNano(), Demand: own}
	if p.announcement != nil {
		a := *p.announcement
		a.MAC = base64.RawURLEncoding.EncodeToString(announcementMAC(p.key, p.self, h.Number, &a))
		h.Admin = &a
	}
	return h
}

// Instances are the other instances that have announced themselves, by name. One that has fallen silent is among them for a minute.
func (p *Peers) Instances() []Instance {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var all []Instance
	for self, known := range p.known {
		if one, ok := known.last.announced(p.key, self); ok {
			all = append(all, one)
		}
	}
	return byName(all)
}

func byName(all []Instance) []Instance {
	slices.SortFunc(all, func(a, b Instance) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.URL, b.URL)) })
	return all
}

// Announced reads from Redis which instances have announced themselves, by name.
func Announced(ctx context.Context, cfg Config, key []byte) ([]Instance, error) {
	client, err := newClient(&cfg, -1)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	held, err := client.HGetAll(ctx, instancesKey).Result()
	if err != nil {
		return nil, err
	}
	var all []Instance
	for self, text := range held {
		var h heartbeat
		if len(text) > maxDemandSize || json.Unmarshal([]byte(text), &h) != nil {
			continue
		}
		if one, ok := h.announced(key, self); ok {
			all = append(all, one)
		}
	}
	return byName(all), nil
}
