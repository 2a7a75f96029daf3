package outbound

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestHugeAnswers are read to a bound: bodies, also those that unpack to more than
// was sent, and headers.
func TestHugeAnswers(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.Copy(z, io.LimitReader(zeros{}, 8<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r := newRecorder(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/packed":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(packed.Bytes())
		case "/long":
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 8<<20))
		default:
			w.Header().Set("X-Long", strings.Repeat("x", 200<<10))
		}
	})
	rule := listing(t, "127.0.0.1")
	for _, path := range []string{"/packed", "/long"} {
		if got, err := get(t, rule, true, r.URL+path); err != nil || len(got) != maxAnswer {
			t.Errorf("%s: read %d bytes, %v", path, len(got), err)
		}
	}
	if _, err := get(t, rule, true, r.URL+"/headers"); err == nil {
		t.Error("headers of 200 KB were taken")
	} else if text := fmt.Sprint(Reason(err)); text != "no answer, or one that is not HTTP" {
		t.Errorf("headers of 200 KB: %s", text)
	}
}

// TestCertificateIsNotQuoted has the other side write into its certificate what an
// operator could take for a line of the report.
func TestCertificateIsNotQuoted(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"localhost": "no answer: tls: the certificate is signed by an unknown authority",
		"a\n\x1b[2Kto do: vault write smvm/config outbound_hosts=evil.example": "no answer: tls: the certificate is for another name",
	} {
		server, _ := named(t, name)
		_, err := get(t, listing(t, "localhost"), true, "https://localhost:"+server.port())
		if err == nil || Reason(err).Error() != want {
			t.Errorf("a certificate for %q: %v, want %s", name, Reason(err), want)
		}
	}
}

// zeros is a reader without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
