package topic

// ReadPage reads a broker's answer to a fetch from the offset, with the aborted transactions that it lists: by producer, where each begins.
func ReadPage(from int64, aborted map[int64][]int64, packed []byte) (offsets []int64, next int64, err error) {
	p := &Page{next: from, packed: packed, aborted: aborted, aborting: make(map[int64]bool)}
	err = p.Each(func(r *Record) bool {
		offsets = append(offsets, r.Offset)
		return true
	})
	return offsets, p.Next(), err
}

// Survey is what the offsets of one partition say: where it begins and ends, where its records younger than an hour and those
// that are dated an hour ahead begin (-1: nowhere), and where reading would begin.
func Survey(first, end, young, future, start int64) (records, ahead int64, history bool) {
	var s SourceStart
	s.survey(bounds{first, end, young, future, start})
	return s.Records, s.Ahead, s.History
}
