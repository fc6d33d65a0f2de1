package admin_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"fanout/admin"
)

// The keys never change: other ones would end every portal link and session.
func TestDerivedKeysAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	keys := admin.DeriveKeys("correct horse battery staple, and then some")
	const want = "da1e76cead4b7be318863755a0215014cd875eda545118568a62b452179ed8cb"
	if got := hex.EncodeToString(keys.For("portal link")); got != want {
		t.Errorf("the key of portal links is %s, want %s", got, want)
	}
	if string(keys.For("portal link")) == string(keys.For("session")) {
		t.Error("one key serves two purposes")
	}
	if admin.DeriveKeys("").For("session") != nil {
		t.Error("there is a key without a token")
	}
}

func TestNewTokensAreLongAndNeverTheSame(t *testing.T) {
	t.Parallel()
	a, b := admin.NewToken(), admin.NewToken()
	if a == b || len(a) != 52 || strings.ContainsFunc(a, func(r rune) bool { return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", r) }) {
		t.Errorf("tokens are %q and %q", a, b)
	}
}

func TestConfigOfTheListeners(t *testing.T) {
	t.Parallel()
	const long = "0123456789abcdef0123456789abcdef"
	for _, one := range []struct {
		cfg  admin.Config
		want string // part of what is wrong; empty: nothing is
	}{
		{admin.Config{Listen: "127.0.0.1:8080"}, ""},
		{admin.Config{Listen: "127.0.0.1:8080", Token: "a"}, ""},
		{admin.Config{Listen: "0.0.0.0:8080"}, "admin.listen: "},
		{admin.Config{Listen: "0.0.0.0:8080", Token: "a"}, "admin.token: has fewer than 32 characters, and with admin.listen"},
		{admin.Config{Listen: "0.0.0.0:8080", Token: long}, ""},
		{admin.Config{Listen: "127.0.0.1:8080", Token: "a", PublicURL: "https://a.example"}, "with admin.public_url"},
		{admin.Config{Listen: "127.0.0.1:8080", Token: "a", Portal: admin.PortalConfig{Listen: ":8081"}}, "with admin.portal.listen"},
		{admin.Config{Listen: "127.0.0.1:8080", Token: "a", Portal: admin.PortalConfig{PublicURL: "https://a.example"}}, "with admin.portal.public_url"},
		{admin.Config{Listen: "127.0.0.1:8080", Portal: admin.PortalConfig{Listen: "127.0.0.1:8081"}}, "there is no portal without admin.token"},
		{admin.Config{Listen: "127.0.0.1:8080", Token: long, PublicURL: "https://a.example/"}, ""},
		{admin.Config{Listen: "127.0.0.1:8080", Token: long, PublicURL: "ftp://a.example"}, "admin.public_url: want"},
		{admin.Config{Listen: "127.0.0.1:8080", Token: long, PublicURL: "https://u:p@a.example/x"}, "admin.public_url: want"},
	} {
		err := one.cfg.Validate()
		if (err == nil) != (one.want == "") || err != nil && !strings.Contains(err.Error(), one.want) {
			t.Errorf("%+v: %v, want %q", one.cfg, err, one.want)
		}
		if err != nil && strings.Contains(err.Error(), "u:p") {
			t.Errorf("a password shows: %v", err)
		}
	}
}
