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
	ListenerTLS     = "SSL"            // TLS alone
	ListenerMutual  = "MUTUAL"         // TLS that wants a client's certificate
)

// KafkaSecurity adds two listeners that sign a user in (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, and OAUTHBEARER with tokens
// that nobody has signed), and two that do not: over TLS alone, and with a client's certificate.
type KafkaSecurity struct {
	Username, Password string
	Certificate        *Certificate // of the brokers
	Authorities        []byte       // PEM: of clients' certificates; nil means that of the brokers
	Authorizer         bool         // nobody may do anything without an ACL, but for who comes without a name, over PLAINTEXT or SSL
}

// SecureAddr is the address of one of the listeners that KafkaSecurity adds.
func (n *KafkaNode) SecureAddr(listener string) string { return loopback(n.secure[listener]) }

func (s *KafkaSecurity) listeners() []string {
	if s == nil {
		return nil
	}
	return []string{ListenerSASL, ListenerSASLTLS, ListenerTLS, ListenerMutual}
}

func (s *KafkaSecurity) properties() map[string]string {
	if s == nil {
		return nil
	}
	plain := fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required user_%s="%s";`, s.Username, s.Password)
	scram := `org.apache.kafka.common.security.scram.ScramLoginModule required;`
	p := map[string]string{
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,MUTUAL:SSL",
		"sasl.enabled.mechanisms":        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
		"ssl.keystore.type":              "PEM",
		"ssl.keystore.location":          brokerPEM,
		"ssl.truststore.type":            "PEM",
		"ssl.truststore.location":        caPEM,
		"ssl.principal.mapping.rules":    "RULE:^CN=([^,]*)$/$1/,DEFAULT", // the user is the certificate's common name

		"listener.name.mutual.ssl.client.auth": "required",
	}
	if s.Authorizer {
		p["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		p["super.users"] = "User:ANONYMOUS"
	}
	bearer := `org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";`
	for _, listener := range []string{ListenerSASL, ListenerSASLTLS} {
		prefix := "listener.name." + strings.ToLower(listener)
		p[prefix+".plain.sasl.jaas.config"] = plain
		p[prefix+".scram-sha-256.sasl.jaas.config"] = scram
		p[prefix+".scram-sha-512.sasl.jaas.config"] = scram
		p[prefix+".oauthbearer.sasl.jaas.config"] = bearer
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
	authorities := s.Authorities
	if authorities == nil {
		authorities = s.Certificate.CertPEM
	}
	return os.WriteFile(filepath.Join(dir, caPEM), authorities, 0o600)
}

// Rekey gives a stopped node the certificate and authorities of s.
func (n *KafkaNode) Rekey(s *KafkaSecurity) error { return s.writeKeys(n.dir) }

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
