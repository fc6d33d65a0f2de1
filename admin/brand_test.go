package admin_test

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fanout/admin"
)

const svg = `<?xml version="1.0"?><!-- a logo --><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`

func inFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(file, data, 0o600))
	return file
}

// A platform's customers see its name, logo and colour, and no product's. Operators see fanout's.
func TestPortalIsThePlatforms(t *testing.T) {
	t.Parallel()
	logo := inFile(t, "logo.svg", []byte(svg))
	w := newWorldOf(t, token, func(cfg *admin.Config) {
		cfg.Portal.Listen, cfg.Portal.Name, cfg.Portal.Logo, cfg.Portal.Color = "127.0.0.1:0", "Acme <Cloud>", logo, "#0f766e"
	})
	w.put("acme", "a")
	base, cookie := w.enter(w.makeLink("acme", ""))
	as := carryingOnly(cookie)
	for _, path := range []string{"/settings/events-webhook", "/settings/events-webhook?new=1", "/endpoints", "/endpoints/show?id=a", "/deliveries", "/dead-letters", "/dead-letters/replay?which=all", "/nowhere"} {
		a := w.portal("GET", base+path, as)
		page := string(a.body)
		shown := strings.ReplaceAll(page, "fanout_", "") // the names of cookies
		if strings.Contains(strings.ToLower(shown), "fanout") || !strings.Contains(page, "Acme &lt;Cloud&gt;") || !strings.Contains(page, `src="/assets/portal-logo"`) || !strings.Contains(page, `href="/assets/portal.css"`) {
			t.Errorf("%s = %d %s", path, a.status, page)
		}
	}
	if a := w.portal("GET", "/portal/none/", as); strings.Contains(strings.ToLower(string(a.body)), "fanout") {
		t.Errorf("a link that does not work shows %s", a.body)
	}
	picture := w.portal("GET", "/assets/portal-logo", anonymous)
	if h := picture.header; picture.status != 200 || string(picture.body) != svg || h.Get("Content-Type") != "image/svg+xml" || h.Get("Content-Disposition") != "attachment" ||
		!strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || strings.Contains(h.Get("Content-Security-Policy"), "script") || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the logo = %d %v", picture.status, picture.header)
	}
	if sheet := w.portal("GET", "/assets/portal.css", anonymous); sheet.status != 200 || !strings.Contains(string(sheet.body), "--accent: #0f766e; --on-accent: #ffffff;") {
		t.Errorf("the style sheet = %d %s", sheet.status, sheet.body)
	}
	if page := w.page(200, "/endpoints"); strings.Contains(page, "Acme") || !strings.Contains(page, "fanout") {
		t.Errorf("operators see %s", page)
	}
}

func TestPortalBrandIsChecked(t *testing.T) {
	t.Parallel()
	var picture bytes.Buffer
	must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 2, 2))))
	for name, c := range map[string]struct {
		cfg  admin.PortalConfig
		want string
	}{
		"png":        {admin.PortalConfig{Name: "Acme", Logo: inFile(t, "a.png", picture.Bytes()), Color: "#FFcc00"}, ""},
		"svg":        {admin.PortalConfig{Logo: inFile(t, "a.svg", []byte(svg))}, ""},
		"long name":  {admin.PortalConfig{Name: strings.Repeat("x", 65)}, "admin.portal.name"},
		"line end":   {admin.PortalConfig{Name: "a\nb"}, "admin.portal.name"},
		"colour":     {admin.PortalConfig{Color: "red;} body{display:none"}, "admin.portal.color"},
		"no file":    {admin.PortalConfig{Logo: "/nowhere/logo.svg"}, "admin.portal.logo"},
		"no picture": {admin.PortalConfig{Logo: inFile(t, "a.svg", []byte("<html><svg></svg></html>"))}, "neither SVG nor PNG"},
		"large":      {admin.PortalConfig{Logo: inFile(t, "a.svg", []byte(svg+strings.Repeat(" ", 100<<10)))}, "100 KiB"},
		"half a png": {admin.PortalConfig{Logo: inFile(t, "a.png", picture.Bytes()[:9])}, "neither SVG nor PNG"},
	} {
		err := (&admin.Config{Listen: "127.0.0.1:0", Portal: c.cfg}).Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
