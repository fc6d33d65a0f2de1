package consumer

// readState says what a partition's reader is doing, or what it waits for. The health check, the lag and the reader itself go by it.
type readState uint8

const (
	reading          readState = iota // it fetches, or hands on what was fetched
	awaitingGroup                     // the coordinator is silent: the partition may be another member's by now
	awaitingCapacity                  // the in-flight budget is full, or a record cannot be written
	awaitingDue                       // the next record of the tier is not due
	awaitingRegistry                  // the schema registry cannot be asked
	awaitingOwner                     // the records are another group's, and nobody has said whether they are to be delivered
	awaitingProducer                  // an open transaction holds back what comes next
	brokerFailing                     // the broker does not answer, or not with records
	topicDeleted                      // the group's offset is gone, as with a topic that was deleted: nothing is read or committed
	readStates
)

// String is the state's name, for logs and tests.
func (s readState) String() string {
	return [readStates]string{"reading", "awaiting the group", "awaiting capacity", "awaiting due", "awaiting the registry", "awaiting its owner", "awaiting a producer", "broker failing", "topic deleted"}[s]
}

// readEvent is an event in a reader's life.
type readEvent uint8

const (
	goesOn          readEvent = iota // its wait is over
	groupSilent                      // see awaitingGroup
	capacityMissing                  // see awaitingCapacity
	notDue                           // see awaitingDue
	registryAway                     // see awaitingRegistry
	ownerUnknown                     // see awaitingOwner
	transactionOpen                  // see awaitingProducer
	brokerFailed                     // see brokerFailing
	offsetForgotten                  // the group has no offset any more where it had one
	topicSettled                     // it is known again which topic is read, and from where
	readEvents
)

// after is the state that follows an event. A deleted topic stays deleted, whatever else is met, until it is settled which topic is read.
func (s readState) after(e readEvent) readState {
	if s == topicDeleted && e != topicSettled {
		return topicDeleted
	}
	switch e {
	case goesOn, topicSettled:
		return reading
	case groupSilent:
		return awaitingGroup
	case capacityMissing:
		return awaitingCapacity
	case notDue:
		return awaitingDue
	case registryAway:
		return awaitingRegistry
	case ownerUnknown:
		return awaitingOwner
	case transactionOpen:
		return awaitingProducer
	case brokerFailed:
		return brokerFailing
	case offsetForgotten:
		return topicDeleted
	case readEvents:
	}
	return s
}

// idle says whether somebody else than this process is waited for: that is not standing still. Records that were read before and are
// not settled are another matter, except where their own records cannot be written.
func (s readState) idle() bool {
	switch s {
	case awaitingDue, awaitingRegistry, awaitingOwner, awaitingProducer, brokerFailing, awaitingGroup:
		return true
	case reading, awaitingCapacity, topicDeleted, readStates:
	}
	return false
}
