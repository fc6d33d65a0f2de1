package terminal

// Keys are the keys among what is typed.
func Keys(typed string) string {
	var filter keyFilter
	var keys []byte
	for _, key := range []byte(typed) {
		if filter.passes(key) {
			keys = append(keys, key)
		}
	}
	return string(keys)
}
