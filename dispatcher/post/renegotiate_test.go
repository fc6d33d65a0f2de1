package post_test

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
)

// renegotiate is a TLS 1.2 server that asks for another handshake when it has the request, and has sent text. crypto/tls
// cannot do that, so the record is made here from the connection's keys.
func renegotiate(cert tls.Certificate, text string) script {
	return func(c net.Conn, _ int) {
		var keys bytes.Buffer
		wire := &recorder{Conn: c}
		s := tls.Server(wire, &tls.Config{
			Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12, KeyLogWriter: &keys,
			CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, SessionTicketsDisabled: true,
		})
		if s.Handshake() != nil {
			return
		}
		read(bufio.NewReader(s))
		sequence := uint64(1) // Finished was the first record under the keys
		if text != "" {
			io.WriteString(s, text)
			sequence++
		}
		// CLIENT_RANDOM <client random> <master secret>
		line := strings.Fields(keys.String())
		client, _ := hex.DecodeString(line[1])
		master, _ := hex.DecodeString(line[2])
		server := wire.sent[5+4+2:][:32] // behind the record's and the ServerHello's head, and the version
		block := prf(master, "key expansion", append(bytes.Clone(server), client...), 2*16+2*4)
		c.Write(seal(block[16:32], block[36:40], sequence, 22, []byte{0, 0, 0, 0})) // HelloRequest
		if _, err := io.Copy(io.Discard, s); err != nil && strings.Contains(err.Error(), "bad record MAC") {
			panic("the client cannot read the HelloRequest")
		}
	}
}

// recorder keeps what was written.
type recorder struct {
	net.Conn
	sent []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.sent = append(r.sent, p...)
	return r.Conn.Write(p)
}

// prf is RFC 5246 section 5, with SHA-256.
func prf(secret []byte, label string, seed []byte, n int) []byte {
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	seed = append([]byte(label), seed...)
	var out []byte
	for a := mac(seed); len(out) < n; a = mac(a) {
		out = append(out, mac(a, seed)...)
	}
	return out[:n]
}

// seal makes a record of TLS 1.2 with AES-128-GCM (RFC 5288).
func seal(key, salt []byte, sequence uint64, kind byte, text []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	number := binary.BigEndian.AppendUint64(nil, sequence)
	with := append(bytes.Clone(number), kind, 3, 3, 0, byte(len(text)))
	sealed := gcm.Seal(bytes.Clone(number), append(bytes.Clone(salt), number...), text, with)
	return append([]byte{kind, 3, 3, 0, byte(len(sealed))}, sealed...)
}
