package lab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// KafkaConfig says what kind of cluster to start.
type KafkaConfig struct {
	Nodes      int               // each broker and controller; default 1
	Properties map[string]string // over the lab's own, on every node
	JVM        []string          // over -Xms512m -Xmx1g
	Secure     *KafkaSecurity    // adds listeners that ask for a password; nil means plaintext only
	Proxied    bool              // adds a plaintext listener that is advertised at another port; see KafkaNode.Proxy
	Racks      bool              // each node is in a rack of its own (KafkaNode.Rack), and consumers may read from the nearest replica
}

// Kafka is a cluster of Apache Kafka brokers in KRaft mode.
type Kafka struct {
	Nodes []*KafkaNode
}

// KafkaNode is one broker of a cluster.
type KafkaNode struct {
	*Process

	ID         int
	port       int
	controller int
	secure     map[string]int // listener name → port
	proxy      int            // where the proxied listener is said to be
	proxied    int            // where it is
}

// Kafka starts a cluster and returns when all nodes know each other. ctx bounds the start only.
func (l *Lab) Kafka(ctx context.Context, cfg KafkaConfig) (*Kafka, error) {
	java, err := tool("java")
	if err != nil {
		return nil, err
	}
	classpath, err := kafkaClasspath()
	if err != nil {
		return nil, err
	}
	k := &Kafka{}
	for i := range max(cfg.Nodes, 1) {
		dir, err := l.subdir(fmt.Sprintf("kafka%d", i+1))
		if err != nil {
			return nil, err
		}
		args := append([]string{java, "-Xms512m", "-Xmx1g"}, cfg.JVM...)
		node := &KafkaNode{
			ID:      i + 1,
			Process: l.process("kafka", dir, append(args, "-cp", classpath, "kafka.Kafka", "server.properties")...),
		}
		if err := node.takePorts(cfg); err != nil {
			return nil, err
		}
		k.Nodes = append(k.Nodes, node)
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	cluster := base64.RawURLEncoding.EncodeToString(id[:])
	for _, node := range k.Nodes {
		if err := node.format(ctx, java, classpath, cluster, k.properties(node, cfg), cfg.Secure); err != nil {
			return nil, err
		}
	}
	return k, k.Start(ctx)
}

func (n *KafkaNode) takePorts(cfg KafkaConfig) error {
	ports := []*int{&n.port, &n.controller}
	if cfg.Proxied {
		ports = append(ports, &n.proxy, &n.proxied)
	}
	for _, port := range ports {
		var err error
		if *port, err = freePort(); err != nil {
			return err
		}
	}
	n.secure = make(map[string]int)
	for _, listener := range cfg.Secure.listeners() {
		port, err := freePort()
		if err != nil {
			return err
		}
		n.secure[listener] = port
	}
	return nil
}

func (k *Kafka) properties(n *KafkaNode, cfg KafkaConfig) map[string]string {
	voters := make([]string, len(k.Nodes))
	for i, v := range k.Nodes {
		voters[i] = fmt.Sprintf("%d@%s", v.ID, loopback(v.controller))
	}
	advertised := []string{"PLAINTEXT://" + n.Addr()}
	for _, name := range slices.Sorted(maps.Keys(n.secure)) {
		advertised = append(advertised, name+"://"+loopback(n.secure[name]))
	}
	listeners := slices.Clone(advertised)
	if cfg.Proxied {
		advertised = append(advertised, listenerProxied+"://"+loopback(n.proxy))
		listeners = append(listeners, listenerProxied+"://"+loopback(n.proxied))
	}
	copies := strconv.Itoa(min(len(k.Nodes), 3))
	isr := strconv.Itoa(min(len(k.Nodes), 2))
	p := map[string]string{
		"process.roles":                    "broker,controller",
		"node.id":                          strconv.Itoa(n.ID),
		"controller.quorum.voters":         strings.Join(voters, ","),
		"controller.listener.names":        "CONTROLLER",
		"advertised.listeners":             strings.Join(advertised, ","),
		"listeners":                        strings.Join(append(listeners, "CONTROLLER://"+loopback(n.controller)), ","),
		"log.dirs":                         n.LogDir(),
		"group.initial.rebalance.delay.ms": "0",
		"auto.create.topics.enable":        "false",
	}
	for _, internal := range []string{"offsets.topic", "transaction.state.log", "share.coordinator.state.topic"} {
		p[internal+".replication.factor"] = copies
	}
	for _, internal := range []string{"transaction.state.log", "share.coordinator.state.topic"} {
		p[internal+".min.isr"] = isr
	}
	if cfg.Proxied {
		p["listener.security.protocol.map"] = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT," + listenerProxied + ":PLAINTEXT"
	}
	if cfg.Racks {
		p["broker.rack"] = n.Rack()
		p["replica.selector.class"] = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
	}
	maps.Copy(p, cfg.Secure.properties())
	maps.Copy(p, cfg.Properties)
	return p
}

// Start starts every node that is not running, on its own port and data, and waits until the cluster is whole.
func (k *Kafka) Start(ctx context.Context) error {
	for _, n := range k.Nodes {
		if n.Running() {
			continue
		}
		if err := n.start(); err != nil {
			return err
		}
	}
	return k.WaitReady(ctx)
}

// StartNode starts one stopped or killed node and waits until the cluster is whole.
func (k *Kafka) StartNode(ctx context.Context, n *KafkaNode) error {
	if err := n.start(); err != nil {
		return err
	}
	return k.WaitReady(ctx)
}

// Stop ends every running node with SIGTERM and waits.
func (k *Kafka) Stop(ctx context.Context) error {
	return k.each(func(n *KafkaNode) error { return n.Stop(ctx) })
}

// Kill ends every node with SIGKILL.
func (k *Kafka) Kill() error {
	return k.each(func(n *KafkaNode) error { return n.Kill() })
}

// Pause freezes every running node.
func (k *Kafka) Pause() error {
	return k.each(func(n *KafkaNode) error { return n.Pause() })
}

// Resume ends a Pause.
func (k *Kafka) Resume() error {
	return k.each(func(n *KafkaNode) error { return n.Resume() })
}

// each does one thing to all running nodes at the same time: a cluster whose controllers are stopped one after the
// other has no quorum left for the last one to say goodbye to.
func (k *Kafka) each(do func(*KafkaNode) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(k.Nodes))
	for i, n := range k.Nodes {
		if n.Running() {
			wg.Go(func() { errs[i] = do(n) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Brokers are the plaintext addresses of all nodes.
func (k *Kafka) Brokers() []string {
	addrs := make([]string, len(k.Nodes))
	for i, n := range k.Nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// Addr is the plaintext address of the first node.
func (k *Kafka) Addr() string { return k.Nodes[0].Addr() }

// Addr is the node's plaintext address.
func (n *KafkaNode) Addr() string { return loopback(n.port) }

// LogDir is the folder of the node's logs.
func (n *KafkaNode) LogDir() string { return n.dir + "/data" }

// Rack is the node's rack, where KafkaConfig.Racks asked for them.
func (n *KafkaNode) Rack() string { return "rack-" + strconv.Itoa(n.ID) }

// listenerProxied is the name of the listener that KafkaConfig.Proxied adds.
const listenerProxied = "PROXIED"

// Proxy is where clients of the proxied listener are told to connect, and where that has to be passed on to. Whoever
// asked for KafkaConfig.Proxied listens at the first.
func (n *KafkaNode) Proxy() (listen, target string) { return loopback(n.proxy), loopback(n.proxied) }

// format writes the node's properties and prepares its data folder, as Kafka wants it once before the first start.
func (n *KafkaNode) format(ctx context.Context, java, classpath, cluster string, p map[string]string, s *KafkaSecurity) error {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&text, "%s=%s\n", key, p[key])
	}
	if err := os.WriteFile(filepath.Join(n.dir, "server.properties"), []byte(text.String()), 0o600); err != nil {
		return err
	}
	if err := s.writeKeys(n.dir); err != nil {
		return err
	}
	// In one word: an id may begin with a hyphen.
	args := []string{"-XX:TieredStopAtLevel=1", "-cp", classpath, "kafka.tools.StorageTool", "format", "--cluster-id=" + cluster, "-c", "server.properties"}
	cmd := exec.CommandContext(ctx, java, append(args, s.scramUsers()...)...)
	cmd.Dir = n.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format kafka's folder: %w: %s", err, out)
	}
	return nil
}

// CutLog takes bytes off the end of a partition's log while the node is down, as a disk loses what was never written to
// it. The node finds it when it starts, and cuts the record that is broken.
func (n *KafkaNode) CutLog(topic string, partition int, size int64) error {
	if n.Running() {
		return errors.New("cut a log: the node runs")
	}
	segments, err := filepath.Glob(filepath.Join(n.dir, "data", fmt.Sprintf("%s-%d", topic, partition), "*.log"))
	if err != nil || len(segments) == 0 {
		return fmt.Errorf("cut a log: %s/%d has no segment: %w", topic, partition, err)
	}
	last := slices.Max(segments)
	info, err := os.Stat(last)
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(n.dir, "data", ".kafka_cleanshutdown")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Truncate(last, max(0, info.Size()-size))
}
