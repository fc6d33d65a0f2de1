// Package spelling finds the word that somebody probably meant. It imports nothing of fanout's.
package spelling

import "strings"

// Nearest returns the known word that the given one is close to, and an empty string where none is. Case and the signs
// "_" and "-" do not count: max_in_flight is close to maxInFlight. A word that begins with a known one of four letters
// or more is close to it. Of several, the one that takes the fewest edits is returned.
func Nearest(word string, known []string) string {
	word = plain(word)
	best, distance := "", max(1, len(word)/3)+1
	for _, candidate := range known {
		k := plain(candidate)
		if len(k) > 3 && strings.HasPrefix(word, k) && word != k {
			best, distance = candidate, min(distance, 1)
			continue
		}
		if d := edits(word, k); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

func plain(word string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(word))
}

// edits counts the letters that have to be changed, added, dropped or swapped with their neighbour to make b of a.
func edits(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
