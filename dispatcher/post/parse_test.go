package post_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"fanout/dispatcher/post"
)

// FuzzParse compares with net/http. Where a connection would be used again, net/http must see the same response and
// nothing behind it: a disagreement there is response smuggling. And the pieces that a response comes in must not matter.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		ok2,
		"HTTP/1.1 204 No\r\n\r\n",
		"HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 2\n\nhi",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 100 Continue\r\n\r\n" + ok2,
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 2\r\n\r\nhi",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, piecewise post.Response
		keep, err := post.Parse(bufio.NewReader(bytes.NewReader(data)), &got)
		_, err1 := post.Parse(bufio.NewReader(iotest.OneByteReader(bytes.NewReader(data))), &piecewise)
		if (err == nil) != (err1 == nil) || got.Status != piecewise.Status || !bytes.Equal(got.Body, piecewise.Body) {
			t.Fatalf("whole: %+v, %v; in pieces: %+v, %v", got, err, piecewise, err1)
		}

		r := bufio.NewReader(bytes.NewReader(data))
		theirs, theirErr := http.ReadResponse(r, &http.Request{Method: http.MethodPost})
		for i := 0; theirErr == nil && theirs.StatusCode < 200 && theirs.StatusCode != http.StatusSwitchingProtocols && i < 10; i++ {
			theirs, theirErr = http.ReadResponse(r, &http.Request{Method: http.MethodPost})
		}
		if err != nil || !keep {
			return
		}
		if theirErr != nil {
			t.Fatalf("kept: %+v; net/http: %v", got, theirErr)
		}
		body, err := io.ReadAll(theirs.Body)
		if err != nil || theirs.StatusCode != got.Status || !bytes.Equal(body[:min(len(body), 1024)], got.Body) || theirs.Close {
			t.Fatalf("kept: %+v; net/http: %d %q close=%v, %v", got, theirs.StatusCode, body, theirs.Close, err)
		}
		if n := r.Buffered(); n > 0 {
			t.Fatalf("kept, and net/http leaves %d bytes", n)
		}
	})
}
