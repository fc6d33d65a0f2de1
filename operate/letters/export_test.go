package letters

import "time"

// Add enters one dead letter of a partition, in the order of its offset.
func (x *Index) Add(partition int, offset int64, at time.Time, account, subscription, reason string) {
	x.take(partition, []entry{{offset, at, account, subscription, reason}}, offset+1)
}

// Begins notes where the logs begin.
func (x *Index) Begins(starts map[int]int64) { x.begins(starts) }

// Save and Load are those of a file.
func (x *Index) Save(path, topicID string) (int64, error) { return x.save(path, topicID) }

// Load takes what a file says.
func (x *Index) Load(path, topicID string) error { return x.load(path, topicID) }
