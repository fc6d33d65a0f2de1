package consumer_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// BenchmarkPlain is the yardstick of BenchmarkHotPath: the same delivery, written with the standard library as one would
// at first. It plans nothing, commits nothing, and has neither lanes nor deadlines of its own.
func BenchmarkPlain(b *testing.B) {
	url := fmt.Sprintf("http://%s/hook", quiet(b))
	key := []byte("0123456789abcdef0123456789abcdef")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	raw := []byte(`{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"abc123","notificationId":"welcome-email","userId":"user-123"}`)
	deliver := func() {
		var in struct{ AccountID, Channel, Type, TrackingID, NotificationID, UserID string }
		if err := json.Unmarshal(raw, &in); err != nil {
			b.Fatal(err)
		}
		body, err := json.Marshal(map[string]string{
			"event": in.Channel + "_" + in.Type, "trackingId": in.TrackingID, "notificationId": in.NotificationID, "userId": in.UserID,
		})
		if err != nil {
			b.Fatal(err)
		}
		now := strconv.FormatInt(time.Now().Unix(), 10)
		id := sha256.Sum256(raw)
		sum := hmac.New(sha256.New, key)
		fmt.Fprintf(sum, "msg_%x.%s.%s", id[:16], now, body)
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("content-type", "application/json")
		r.Header.Set("webhook-id", fmt.Sprintf("msg_%x", id[:16]))
		r.Header.Set("webhook-timestamp", now)
		r.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(sum.Sum(nil)))
		resp, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	deliver()
	b.ReportAllocs()
	for b.Loop() {
		deliver()
	}
}
