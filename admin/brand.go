package admin

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// brand is what the portal shows of the platform whose customers use it (docs/contract.md#portal). Its zero value is fanout's own.
type brand struct {
	Name  string
	Logo  string // the logo's address; empty: none
	Sheet string // the address of a style sheet; empty: none

	logo     []byte
	logoType string
	sheet    []byte
}

const (
	maxPortalName = 64
	maxLogo       = 100 << 10
	logoPath      = "/assets/portal-logo"
	sheetPath     = "/assets/portal.css"
)

var hexColor = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// problems says what is wrong with the portal's name, logo and colour, each with its key.
func (c *PortalConfig) problems() (problems []error) {
	if utf8.RuneCountInString(c.Name) > maxPortalName || strings.ContainsFunc(c.Name, unicode.IsControl) || c.Name != strings.TrimSpace(c.Name) {
		problems = append(problems, fmt.Errorf("admin.portal.name: want at most %d characters, without line ends or spaces around them", maxPortalName))
	}
	if c.Color != "" && !hexColor.MatchString(c.Color) {
		problems = append(problems, fmt.Errorf("admin.portal.color: %.40q: want a colour as #rrggbb, such as #0f766e", c.Color))
	}
	if c.Logo != "" {
		if _, _, err := readLogo(c.Logo); err != nil {
			problems = append(problems, fmt.Errorf("admin.portal.logo: %w", err))
		}
	}
	return problems
}

// newBrand reads what the configuration says, which has been validated.
func newBrand(c *PortalConfig) (brand, error) {
	b := brand{Name: c.Name}
	if c.Logo != "" {
		var err error
		if b.logo, b.logoType, err = readLogo(c.Logo); err != nil {
			return b, fmt.Errorf("admin.portal.logo: %w", err)
		}
		b.Logo = logoPath
	}
	if c.Color != "" {
		b.Sheet, b.sheet = sheetPath, fmt.Appendf(nil, ":root { --accent: %s; --on-accent: %s; --soft: transparent; }\n", c.Color, textOn(c.Color))
	}
	return b, nil
}

// readLogo reads a picture and says what kind it is. It goes by the content: what is called a picture and is none would be
// served as one.
func readLogo(file string) (data []byte, kind string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, maxLogo+1))
	if err != nil {
		return nil, "", err
	}
	if len(data) > maxLogo {
		return nil, "", fmt.Errorf("%s has more than %d KiB", file, maxLogo>>10)
	}
	if _, err := png.DecodeConfig(bytes.NewReader(data)); err == nil {
		return data, "image/png", nil
	}
	if utf8.Valid(data) && svgRoot.Match(data) {
		return data, "image/svg+xml", nil
	}
	return nil, "", errors.New(file + " is neither SVG nor PNG")
}

// svgRoot is the beginning of an SVG file: its root, with an XML declaration, a document type and comments before it.
var svgRoot = regexp.MustCompile(`^\x{FEFF}?\s*(?:<\?xml[^>]*>\s*|<!DOCTYPE[^>\[]*>\s*|<!--(?s:.*?)-->\s*)*<svg[\s>]`)

// textOn is the colour of text that can be read on the colour: black or white, by its luminance (WCAG 2.2).
func textOn(color string) string {
	rgb, _ := strconv.ParseUint(color[1:], 16, 32)
	linear := func(shift uint) float64 {
		v := float64(rgb>>shift&0xff) / 255
		return v * v // near enough to sRGB's curve to choose between two
	}
	if 0.2126*linear(16)+0.7152*linear(8)+0.0722*linear(0) > 0.18 {
		return "#000000"
	}
	return "#ffffff"
}

// register serves the logo and the style sheet to anybody, as other assets. The logo is an image and nothing else: what a script
// in it would do, it does nowhere (docs/contract.md#portal-logo).
func (b *brand) register(d *door) {
	if b.Logo != "" {
		d.handle("GET "+logoPath, kept(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "image" {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
			w.Header().Set("Content-Disposition", "attachment")
			w.Header().Set("Content-Type", b.logoType)
			_, _ = w.Write(b.logo)
		})))
	}
	if b.Sheet != "" {
		d.handle("GET "+sheetPath, kept(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/css; charset=utf-8")
			_, _ = w.Write(b.sheet)
		})))
	}
}
