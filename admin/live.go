package admin

import (
	"hash/fnv"
	"net/http"
	"strconv"

	"go.uber.org/zap"
)

// renew answers with the verdict and the live part of a page alone, and with 304 where the browser has it already. The script of the
// page asks once a second, and only while the tab is seen. There is no stream that stays open: a browser has six
// connections to a host for all its tabs together, so that the seventh tab would wait for ever.
func (t *templates) renew(w http.ResponseWriter, r *http.Request, name string, v view) {
	part, err := t.execute(name, "live", v)
	if err != nil {
		t.log.Error("page not rendered", zap.Error(err))
		t.fail(w, v.scope, errNotRendered)
		return
	}
	verdict, err := t.execute(name, "verdict", v)
	if err != nil {
		t.log.Error("page not rendered", zap.Error(err))
		t.fail(w, v.scope, errNotRendered)
		return
	}
	part = append(verdict, part...)
	hash := fnv.New64a()
	_, _ = hash.Write(part)
	tag := `"` + strconv.FormatUint(hash.Sum64(), 16) + `"`
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	writePage(w, http.StatusOK, part)
}
