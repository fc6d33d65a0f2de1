package operate

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"fanout/topic"
)

// ErrCursor says that a cursor is not one that was given out.
var ErrCursor = errors.New("the cursor is not one that an answer gave")

// cursorOf says where each partition's rest ends: "partition.offset" of each.
func cursorOf(rest map[int]topic.Range) string {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(rest)) {
		parts = append(parts, strconv.Itoa(id)+"."+strconv.FormatInt(rest[id].To, 10))
	}
	return strings.Join(parts, "_")
}

// afterCursor returns what of the ranges comes after the answer that gave the cursor: all of it where the cursor is empty. Answers begin with the
// newest record, so a partition that was added later has nothing that comes after.
func afterCursor(all map[int]topic.Range, cursor string) (map[int]topic.Range, error) {
	if cursor == "" {
		return maps.Clone(all), nil
	}
	ends := make(map[int]int64)
	for part := range strings.SplitSeq(cursor, "_") {
		id, offset, _ := strings.Cut(part, ".")
		partition, err := strconv.ParseUint(id, 10, 31)
		end, endErr := strconv.ParseUint(offset, 10, 63)
		if err != nil || endErr != nil {
			return nil, ErrCursor
		}
		ends[int(partition)] = int64(end)
	}
	rest := make(map[int]topic.Range, len(all))
	for id, r := range all {
		rest[id] = topic.Range{From: r.From, To: max(r.From, min(r.To, ends[id]))}
	}
	return rest, nil
}
