package admin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// asset is a file of the pages, ready to send.
type asset struct {
	kind          string
	plain, zipped []byte
	mark          string // of its content: it is part of the address, so that the file may be kept for ever
}

// files are the assets by name, as they are in the program.
type files map[string]*asset

const assetsPath = "/assets/"

// allFiles makes them once for all servers of the process. They are not changed.
//
//nolint:gochecknoglobals // they are worked out once, and the same for ever
var allFiles = sync.OnceValues(newFiles)

func newFiles() (files, error) {
	all := files{}
	err := fs.WalkDir(web, "web", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) == ".html" {
			return err
		}
		data, err := fs.ReadFile(web, name)
		if err != nil {
			return err
		}
		var zipped bytes.Buffer
		z, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err = z.Write(data); err == nil {
			err = z.Close()
		}
		sum := sha256.Sum256(data)
		all[strings.TrimPrefix(name, "web/")] = &asset{assetKind(name), data, zipped.Bytes(), hex.EncodeToString(sum[:6])}
		return err
	})
	return all, err
}

func assetKind(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return "text/plain; charset=utf-8"
}

// address is where a page finds an asset.
func (f files) address(name string) string {
	if one := f[name]; one != nil {
		return assetsPath + name + "?v=" + one.mark
	}
	return assetsPath + name
}

// ServeHTTP sends an asset, compressed where the browser takes that. Under the address that a page has for it, it may be kept for ever.
func (f files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	one := f[strings.TrimPrefix(r.URL.Path, assetsPath)]
	if one == nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", one.kind)
	h.Set("Cache-Control", "private, max-age=300")
	if r.URL.Query().Get("v") == one.mark {
		h.Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	h.Set("Vary", "Accept-Encoding")
	data, tag := one.plain, one.mark
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		data, tag = one.zipped, tag+"-gzip"
	}
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
