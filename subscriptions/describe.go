package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"

	"fanout/credential"
)

// keyError is an error of Redis about one key of fanout's: the answer itself names none.
type keyError struct {
	key string
	err error
}

func (e *keyError) Error() string { return e.err.Error() }

func (e *keyError) Unwrap() error { return e.err }

// about adds to an error which key was asked for.
func about(key string, err error) error {
	if err == nil {
		return nil
	}
	return &keyError{key, err}
}

// maxReason bounds what is said of an error, in bytes.
const maxReason = 400

// trouble says what went wrong, and what to do about it where that is known.
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
	if setting, ok := errors.AsType[*credential.Error](err); ok {
		return trouble{cut(fmt.Sprintf("%s: %v", setting.Key, setting.Err), maxReason), setting.Remedy}
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
	if keyed, ok := errors.AsType[*keyError](err); ok && wrongType(keyed.err) {
		return trouble{cut(keyed.key, maxReason/2) + " holds another type of value than it must", mustHold(keyed.key)}
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
	return trouble{found, stateRemedies[word]}
}

// stateRemedies say what ends a state in which Redis refuses commands, by the first word of its answer.
//
//nolint:gochecknoglobals // a constant table
var stateRemedies = map[string]string{
	"OOM":         "Redis is at its maxmemory: raise that, and leave maxmemory-policy at noeviction, so that it drops no accounts",
	"READONLY":    "it is a replica: name the primary in redis.url, or the sentinels, who know which one it is",
	"NOREPLICAS":  "fewer replicas follow than min-replicas-to-write asks for: bring them back; what is known stays in force meanwhile",
	"MISCONF":     "Redis cannot save its data, and takes no writes: its log says why; often its disk is full or not writable",
	"LOADING":     "Redis has just started and reads its data: wait until it is done; this is tried again",
	"CLUSTERDOWN": "no master serves some of the Cluster's slots: redis-cli --cluster check names them; bring their nodes back",
	"MASTERDOWN":  "it is a replica that has lost its primary: bring that back, or name the new one in redis.url",
	"BUSY":        "a script keeps Redis from answering: SCRIPT KILL or FUNCTION KILL ends it",
}

// mustHold says what a key must hold, and what to do where it does not (docs/contract.md#redis-keys).
func mustHold(key string) string {
	switch {
	case key == changesKey:
		return "it must hold a stream: DEL " + key + "; the next XADD makes it, and every instance then loads all subscriptions again"
	case key == changedKey:
		return "it must hold a sorted set: DEL " + key + "; the instances make it again, and `fanout audit` cannot judge what was before"
	case key == instancesKey:
		return "it must hold a hash: DEL " + key + "; the instances write it again within a second"
	case strings.HasPrefix(key, portalLinksKey("")):
		return "it must hold a hash: delete it; the account's portal links are revoked with it"
	}
	return "it must hold a hash, subscription id → JSON: delete or rename it, and write the account's subscriptions again"
}
