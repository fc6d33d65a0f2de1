package admin_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// A page's assets are compressed, and kept for ever under the address that the page has for them.
func TestAssets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	page := w.page(200, "/sign-in", anonymous)
	found := regexp.MustCompile(`"(/assets/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(found) < 5 {
		t.Fatalf("the page has %d assets", len(found))
	}
	as := func(encoding string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Accept-Encoding", encoding) }
	}
	for _, one := range found {
		at := one[1]
		plain := w.want(200, "GET", at, "", anonymous, as("identity"))
		zipped := w.want(200, "GET", at, "", anonymous, as("br, gzip"))
		if got := plain.header.Get("Cache-Control"); got != "private, max-age=31536000, immutable" {
			t.Errorf("%s is kept as %q", at, got)
		}
		if zipped.header.Get("Content-Encoding") != "gzip" || zipped.header.Get("Vary") != "Accept-Encoding" || len(zipped.body) >= len(plain.body) {
			t.Errorf("%s: %d bytes are %d compressed, %v", at, len(plain.body), len(zipped.body), zipped.header)
		}
		z, err := gzip.NewReader(bytes.NewReader(zipped.body))
		must(t, err)
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plain.body) {
			t.Errorf("%s is another file when it is compressed: %v", at, err)
		}
		known := func(r *http.Request) { r.Header.Set("If-None-Match", zipped.header.Get("ETag")) }
		w.want(304, "GET", at, "", anonymous, as("gzip"), known)
		if old := w.want(200, "GET", strings.Split(at, "?")[0]+"?v=old", "", anonymous); old.header.Get("Cache-Control") != "private, max-age=300" {
			t.Errorf("%s under an address of another version is kept as %q", at, old.header.Get("Cache-Control"))
		}
	}
	for _, path := range []string{"/assets/", "/assets/layout.html", "/assets/vendor", "/assets/../pages.go", "/assets/nothing.js"} {
		if a := w.do("GET", path, "", anonymous); a.status == 200 {
			t.Errorf("%s = %d", path, a.status)
		}
	}
}
