package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

// settingError is what went wrong because of a key of the configuration, with what to do. It does not unwrap: of an error
// that does, go-redis would hand on what is inside.
type settingError struct {
	key    string
	err    error
	remedy string
}

func (e *settingError) Error() string { return fmt.Sprintf("%s: %v: %s", e.key, e.err, e.remedy) }

// maxReason bounds what is said of an error, in bytes.
const maxReason = 400

// trouble is what went wrong, and what to do about it where that is known.
type trouble struct{ found, remedy string }

func (t trouble) String() string {
	if t.remedy == "" {
		return t.found
	}
	return t.found + ": " + t.remedy
}

// describe says what went wrong, and of a setting which key to look at, without quoting a credential.
func describe(err error) string { return explain(err).String() }

func explain(err error) trouble {
	if setting, ok := errors.AsType[*settingError](err); ok {
		return trouble{cut(fmt.Sprintf("%s: %v", setting.key, setting.err), maxReason), setting.remedy}
	}
	who, prefix := "redis", "redis."
	if strings.Contains(err.Error(), "all sentinels") { // go-redis has no type for it
		who, prefix = "sentinels", "redis.sentinel_"
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return trouble{found: "look up " + who + ": " + dns.Err}
	}
	if err, ok := errors.AsType[net.Error](err); ok && err.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return trouble{found: who + " does not answer in time"}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate") { // with TLS 1.3 the first answer says so
			return trouble{"redis.tls.cert_file: " + op.Err.Error(), "name a client certificate of an authority that " + who + " knows"}
		}
		return trouble{found: op.Op + " " + who + ": " + op.Err.Error()}
	}
	if who == "sentinels" && errors.Is(err, redis.Nil) {
		return trouble{"redis.url: no sentinel knows a master by the name that ?master= gives", "use that of its `sentinel monitor`"}
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		return answered(who, prefix, cut(reply.Error(), maxReason/2))
	}
	return trouble{found: who + ": " + cut(err.Error(), maxReason/2)}
}

var quoted = regexp.MustCompile(`'([a-z|]+)'`)

// answered is an error that Redis answered with.
func answered(who, prefix, reply string) trouble {
	found := who + ": " + strings.TrimSuffix(reply, ".")
	word, _, _ := strings.Cut(reply, " ")
	switch word {
	case "WRONGPASS":
		return trouble{found, fmt.Sprintf("compare %[1]susername, and %[1]spassword or %[1]spassword_file, with the user there (ACL SETUSER)", prefix)}
	case "NOAUTH":
		return trouble{found, fmt.Sprintf("set %[1]spassword or %[1]spassword_file", prefix)}
	case "NOPERM":
		want := "~fanout:*"
		if command := quoted.FindStringSubmatch(reply); command != nil {
			want = "+" + command[1]
		}
		return trouble{found, fmt.Sprintf("allow it to %susername, with ACL SETUSER <user> %s", prefix, want)}
	case "WRONGTYPE":
		return trouble{found, "the keys fanout:account:<account> hold hashes: subscription id → JSON"}
	}
	return trouble{found: found}
}
