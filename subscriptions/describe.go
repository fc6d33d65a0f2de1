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

// describe says what went wrong, and of a setting which key to look at, without quoting a credential.
func describe(err error) string {
	if setting, ok := errors.AsType[*settingError](err); ok {
		return cut(setting.Error(), maxReason)
	}
	who, prefix := "redis", "redis."
	if strings.Contains(err.Error(), "all sentinels") { // go-redis has no type for it
		who, prefix = "sentinels", "redis.sentinel_"
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return "look up " + who + ": " + dns.Err
	}
	if err, ok := errors.AsType[net.Error](err); ok && err.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return who + " does not answer in time"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate") { // with TLS 1.3 the first answer says so
			return "redis.tls.cert_file: " + op.Err.Error() + ": " + who + " wants a client certificate of an authority that it knows"
		}
		return op.Op + " " + who + ": " + op.Err.Error()
	}
	if who == "sentinels" && errors.Is(err, redis.Nil) {
		return "redis.url: no sentinel knows a master by the name that ?master= gives: use that of its `sentinel monitor`"
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		return answered(who, prefix, cut(reply.Error(), maxReason/2))
	}
	return who + ": " + cut(err.Error(), maxReason/2)
}

var quoted = regexp.MustCompile(`'([a-z|]+)'`)

// answered is an error that Redis answered with.
func answered(who, prefix, reply string) string {
	word, _, _ := strings.Cut(reply, " ")
	switch word {
	case "WRONGPASS":
		files := " or password_file"
		if who == "sentinels" {
			files = ""
		}
		return fmt.Sprintf("%susername, %spassword%s: refused by %s: %s Compare them with the user there (ACL SETUSER)", prefix, prefix, files, who, reply)
	case "NOAUTH":
		return fmt.Sprintf("%spassword: it is not set, and wanted: %s: %s", prefix, who, reply)
	case "NOPERM":
		want := "~fanout:*"
		if command := quoted.FindStringSubmatch(reply); command != nil {
			want = "+" + command[1]
		}
		return fmt.Sprintf("%susername: %s: %s: allow it, with ACL SETUSER <user> %s", prefix, who, reply, want)
	}
	return who + ": " + reply
}
