package main

import (
	"math"
	"time"
)

// What things cost, measured with cmd/proof/bench on two shared cores of a cloud machine, real Kafka, nginx as receiver; the
// part of the bench is named beside each, docs/benchmarks.md has the runs. Cores differ: to plan for other ones, run
// `bench pipeline` there and scale by its CPU a delivery.
const (
	eventCPU     = 3 * time.Microsecond   // reading, decoding and planning an event (fanout: 1 against 100 subscriptions an event)
	attemptCPU   = 14 * time.Microsecond  // signing, sending and settling over a kept connection (pipeline, less eventCPU)
	tlsCPU       = 8 * time.Microsecond   // more, over HTTPS (tls)
	handshakeCPU = 550 * time.Microsecond // a new connection over HTTPS with an ECDSA certificate, nothing resumed (tls)
	connectCPU   = 60 * time.Microsecond  // a new connection over HTTP
	againCPU     = 20 * time.Microsecond  // writing a retry record and reading it again (failing, retry)
	recordedCPU  = 7 * time.Microsecond   // a record of attempts.topic (attempts)

	baseMemory         = 140 << 20 // an instance at full pace with few subscriptions, its collector's room included (pipeline)
	subscriptionMemory = 350       // (subscriptions: the peak with 1 000 000 less that with 1 000)
	attemptMemory      = 14 << 10  // an attempt in flight, the collector's room included (inflight)
	tlsMemory          = 24 << 10  // more, over HTTPS (dispatcher/post, TestMemory)

	eventBytes   = 250 // a raw event as Kafka sends it
	requestBytes = 700 // request with its signature, TCP/IP
	replyBytes   = 300 // a short answer, TCP/IP
	retryBytes   = 650 // a retry record: body, key, headers, not compressed

	keptConnections = 2048             // dispatcher/post: idle connections an instance keeps
	keptFor         = 30 * time.Second // and for how long
	mostInFlight    = 10_000           // attempts in flight that are measured in one instance

	busy            = 0.6    // part of the cores that is to be in use, so that a lag can be caught up
	partitionPace   = 20_000 // events a second that one partition's reader is asked for
	tierPace        = 10_000 // the same of retry records
	leastPartitions = 12     // kafka.partitions
	leastTier       = 3      // kafka.retry_partitions
	defaultInFlight = 2048   // delivery.max_in_flight
	maxAttempts     = 8      // the first and the seven of delivery.schedule
	retryRetention  = 10 * 24 * time.Hour
)

// demand is what is to be delivered, and how.
type demand struct {
	EventsPerSecond float64       `json:"eventsPerSecond"`
	Subscriptions   int           `json:"subscriptions"`
	Hosts           int           `json:"hosts"`   // that they are at
	FanOut          float64       `json:"fanOut"`  // deliveries an event
	Failing         float64       `json:"failing"` // part of the attempts
	Latency         time.Duration `json:"-"`       // of an answer, on average
	LatencySeconds  float64       `json:"latencySeconds"`
	HTTP            bool          `json:"http"` // no TLS
	AttemptsTopic   bool          `json:"attemptsTopic"`
	Cores           int           `json:"coresAnInstance"`
}

// capacity is what a demand takes.
type capacity struct {
	Demand demand `json:"demand"`

	AttemptsPerSecond     float64 `json:"attemptsPerSecond"`
	ConnectionsPerSecond  float64 `json:"newConnectionsPerSecond"`
	RetryRecordsPerSecond float64 `json:"retryRecordsPerSecond"`
	DeadPerSecond         float64 `json:"deadLettersPerSecond"`

	BusyCores   float64 `json:"busyCores"`
	Instances   int     `json:"instances"` // one of them to spare
	Cores       int     `json:"cores"`
	Partitions  int     `json:"sourcePartitions"`
	Tier        int     `json:"retryPartitions"`
	InFlight    int     `json:"inFlightAnInstance"`
	MaxInFlight int     `json:"maxInFlight"` // for delivery.max_in_flight
	Memory      int64   `json:"memoryBytesAnInstance"`

	RetryBytesPerSecond float64 `json:"retryBytesPerSecond"`
	RetryDisk           float64 `json:"retryBytesKept"`          // for one replica
	BacklogPerHour      float64 `json:"backlogRecordsAnHour"`    // while what fails stays down
	InBytesPerSecond    float64 `json:"networkInBytesPerSecond"` // of all instances
	OutBytesPerSecond   float64 `json:"networkOutBytesPerSecond"`
}

// plan is the cost model. An attempt fails with the same chance each time; each instance meets all hosts, since raw
// events have their users' keys; and any instance may be lost without the others falling behind.
func plan(d demand) capacity {
	c := capacity{Demand: d}
	deliveries := d.EventsPerSecond * d.FanOut
	c.DeadPerSecond = deliveries * math.Pow(d.Failing, maxAttempts)
	c.AttemptsPerSecond = deliveries
	for step := 1; step < maxAttempts; step++ {
		c.RetryRecordsPerSecond += deliveries * math.Pow(d.Failing, float64(step))
	}
	c.AttemptsPerSecond += c.RetryRecordsPerSecond
	c.RetryBytesPerSecond = c.RetryRecordsPerSecond * retryBytes
	c.RetryDisk = c.RetryBytesPerSecond * retryRetention.Seconds()
	c.BacklogPerHour = deliveries * d.Failing * time.Hour.Seconds()

	// More instances keep more connections, and new connections are the dearest thing there is: begin with few.
	inFlight := c.AttemptsPerSecond * d.Latency.Seconds()
	working := 1
	for {
		c.cost(working)
		need := max(1, ceil(c.BusyCores/busy/float64(d.Cores)), ceil(inFlight/mostInFlight))
		if need <= working {
			break
		}
		working++
	}
	c.Instances = working + 1
	c.Cores = c.Instances * d.Cores
	c.Partitions = roundUp(max(leastPartitions, 2*c.Instances, ceil(d.EventsPerSecond/partitionPace)), c.Instances)
	c.Tier = max(leastTier, ceil(c.RetryRecordsPerSecond/tierPace))
	c.InFlight = ceil(inFlight / float64(working))
	c.MaxInFlight = max(defaultInFlight, roundUp(2*c.InFlight, 1024))

	attempt := int64(attemptMemory)
	if !d.HTTP {
		attempt += tlsMemory
	}
	c.Memory = baseMemory + int64(d.Subscriptions)*subscriptionMemory + int64(c.InFlight)*attempt
	c.InBytesPerSecond = d.EventsPerSecond*eventBytes + c.AttemptsPerSecond*replyBytes + c.RetryBytesPerSecond
	c.OutBytesPerSecond = c.AttemptsPerSecond*requestBytes + c.RetryBytesPerSecond
	return c
}

// cost is the cores that so many instances keep busy.
func (c *capacity) cost(instances int) {
	d := c.Demand
	c.ConnectionsPerSecond = c.AttemptsPerSecond * newConnections(c.AttemptsPerSecond, d.Hosts, instances)
	each, connect := attemptCPU, connectCPU
	if !d.HTTP {
		each, connect = each+tlsCPU, handshakeCPU
	}
	if d.AttemptsTopic {
		each += recordedCPU
	}
	c.BusyCores = d.EventsPerSecond*eventCPU.Seconds() + c.AttemptsPerSecond*each.Seconds() +
		c.ConnectionsPerSecond*connect.Seconds() + c.RetryRecordsPerSecond*againCPU.Seconds()
}

// newConnections is the part of the attempts that find no kept connection: the last one to that host is too long ago,
// or connections to others have taken its place.
func newConnections(attempts float64, hosts, instances int) float64 {
	if attempts == 0 || hosts == 0 {
		return 0
	}
	rate := attempts / float64(hosts) / float64(instances)
	return max(math.Exp(-rate*keptFor.Seconds()), 1-keptConnections/float64(hosts))
}

func ceil(x float64) int { return int(math.Ceil(x - 1e-9)) }

// roundUp is the next multiple of step.
func roundUp(n, step int) int { return (n + step - 1) / step * step }
