package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Names of the listeners that KafkaSecurity adds; KafkaNode.SecureAddr takes one of them.
const (
	ListenerSASL    = "SASL_PLAINTEXT" // a password, no encryption
	ListenerSASLTLS = "SASL_SSL"       // a password over TLS
)

// KafkaSecurity adds two listeners that ask for a password: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512, one user.
type KafkaSecurity struct {
	Username, Password string
	Certificate        *Certificate // of the brokers, for ListenerSASLTLS
}

// SecureAddr is the address of one of the listeners that KafkaSecurity adds.
func (n *KafkaNode) SecureAddr(listener string) string { return loopback(n.secure[listener]) }

func (s *KafkaSecurity) listeners() []string {
	if s == nil {
		return nil
	}
	return []string{ListenerSASL, ListenerSASLTLS}
}

func (s *KafkaSecurity) properties() map[string]string {
	if s == nil {
		return nil
	}
	plain := fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required user_%s="%s";`, s.Username, s.Password)
	scram := `org.apache.kafka.common.security.scram.ScramLoginModule required;`
	p := map[string]string{
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
		"sasl.enabled.mechanisms":        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"ssl.keystore.type":              "PEM",
		"ssl.keystore.location":          brokerPEM,
		"ssl.truststore.type":            "PEM",
		"ssl.truststore.location":        caPEM,
	}
	for _, listener := range s.listeners() {
		prefix := "listener.name." + strings.ToLower(listener)
		p[prefix+".plain.sasl.jaas.config"] = plain
		p[prefix+".scram-sha-256.sasl.jaas.config"] = scram
		p[prefix+".scram-sha-512.sasl.jaas.config"] = scram
	}
	return p
}

// In a node's folder, which is its working folder.
const (
	brokerPEM = "broker.pem"
	caPEM     = "ca.pem"
)

func (s *KafkaSecurity) writeKeys(dir string) error {
	if s == nil {
		return nil
	}
	both := append(append([]byte{}, s.Certificate.KeyPEM...), s.Certificate.CertPEM...)
	if err := os.WriteFile(filepath.Join(dir, brokerPEM), both, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, caPEM), s.Certificate.CertPEM, 0o600)
}

// scramUsers are arguments of StorageTool: SCRAM's users live in the cluster's metadata from its first record on.
func (s *KafkaSecurity) scramUsers() []string {
	if s == nil {
		return nil
	}
	var args []string
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, s.Username, s.Password))
	}
	return args
}
