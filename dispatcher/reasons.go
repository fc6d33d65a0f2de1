package dispatcher

// Dead says whether a delivery, or a record, can be dead for the reason.
func (r Reason) Dead() bool { return r >= MalformedEvent && r <= InvalidSubscription }

// DeadReasons lists the reasons that dead letters have.
func DeadReasons() []string {
	return append([]string(nil), reasonTable[MalformedEvent:InvalidSubscription+1]...)
}
