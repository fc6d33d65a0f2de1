package consumer

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"fanout/topic/wire"
)

// subscription describes the member to the leader when it joins.
func (m *membership) subscription(wanted map[string]int) []byte {
	data := memberData{Generation: m.member.given, Leaving: m.member.leaving, Layout: layoutOf(wanted)}
	s := wire.Subscription{UserData: data.encode(), Owned: m.holdings.held()}
	for name := range wanted {
		s.Topics = append(s.Topics, name)
	}
	return s.Append(nil)
}

// layoutOf is short text that is another one for other topics or sizes.
func layoutOf(sizes map[string]int) string {
	lines := make([]string, 0, len(sizes))
	for name, n := range sizes {
		lines = append(lines, name+":"+strconv.Itoa(n))
	}
	slices.Sort(lines)
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.Join(lines, "\n"))) // a hash takes everything
	return strconv.FormatUint(h.Sum64(), 36)
}

// assignmentData goes from the leader to each member besides its partitions.
type assignmentData struct {
	Staying int `json:"staying"` // members that do not leave
}

// lead shares the partitions among the members.
func (m *membership) lead(ctx context.Context, members []wire.Member) (map[string][]byte, error) {
	claims := make([]claim, 0, len(members))
	wanted := make(map[string]bool)
	staying := 0
	for _, other := range members {
		s, err := wire.ParseSubscription(other.Metadata)
		var data memberData
		if err == nil {
			err = json.Unmarshal(s.UserData, &data)
		}
		if err != nil {
			m.log.Warn("a member of the group says of itself what cannot be read; it gets nothing", zap.String("member", other.ID), zap.Error(err))
		}
		if !data.Leaving {
			staying++
		}
		for _, name := range s.Topics {
			wanted[name] = true
		}
		claims = append(claims, claim{member: other.ID, topics: s.Topics, owned: s.Owned, generation: data.Generation, leaving: data.Leaving})
	}
	list := make([]string, 0, len(wanted))
	for name := range wanted {
		list = append(list, name)
	}
	sizes, err := m.sizes(ctx, list)
	if err != nil {
		return nil, err
	}
	extra, err := json.Marshal(assignmentData{Staying: staying})
	if err != nil {
		return nil, err
	}
	shared := assign(claims, sizes)
	given := make(map[string][]byte, len(claims))
	for id, partitions := range shared.given {
		a := wire.Assignment{Partitions: partitions, UserData: extra}
		given[id] = a.Append(nil)
	}
	return given, nil
}

func stayingOf(data []byte) int {
	var a assignmentData
	if json.Unmarshal(data, &a) != nil {
		return 1
	}
	return a.Staying
}
