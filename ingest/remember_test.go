package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/web"
)

const keyed = "Idempotency-Key"

// text is n bytes, none of whose blocks are alike.
func text(n int) []byte {
	b := make([]byte, 0, n+20)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d ", i)
	}
	return b[:n]
}

// readPrinted reads the body with the print of an earlier one.
func readPrinted(body io.Reader, known *fingerprint) (got []byte, print *fingerprint, err error) {
	p := newFingerprinter(body, known)
	got, err = io.ReadAll(p)
	return got, p.result(), err
}

// What comes out of a body is the body, up to the first block that is not that of
// an earlier one.
func TestBodiesAreKnownAgain(t *testing.T) {
	sizes := []int{0, 1, fineCut - 1, fineCut, fineCut + 1, fineCuts*fineCut + 5, fineCuts*fineCut + 3*coarseCut}
	for _, size := range sizes {
		body := text(size)
		_, first, err := readPrinted(iotest.HalfReader(bytes.NewReader(body)), nil)
		if err != nil || first.Length != int64(size) || !first.Whole {
			t.Fatalf("%d bytes: %+v, %v", size, first, err)
		}
		got, again, err := readPrinted(bytes.NewReader(body), first)
		if err != nil || !bytes.Equal(got, body) || !bytes.Equal(again.Cuts, first.Cuts) || !bytes.Equal(again.End, first.End) {
			t.Fatalf("%d bytes, again: %d, %+v, %v", size, len(got), again, err)
		}
		for _, at := range []int{0, size / 2, size - 1, size} {
			if at < 0 {
				continue
			}
			other := append(bytes.Clone(body), 'x')
			if at < size {
				other = bytes.Clone(body)
				other[at] ^= 1
			}
			got, _, err := readPrinted(iotest.DataErrReader(bytes.NewReader(other)), first)
			var problem *web.Problem
			if !errors.As(err, &problem) || problem.Status != http.StatusUnprocessableEntity {
				t.Fatalf("%d bytes, another from %d: %v", size, at, err)
			}
			if len(got) > at || !bytes.Equal(got, body[:len(got)]) {
				t.Fatalf("%d bytes, another from %d: %d bytes were given out", size, at, len(got))
			}
		}
		if size > 1 {
			if got, _, err := readPrinted(bytes.NewReader(body[:size-1]), first); err == nil || len(got) > size-1 {
				t.Fatalf("%d bytes, shorter: %d bytes, %v", size, len(got), err)
			}
		}
	}
}

// An upload that was cut short is known as far as it came; what follows is new.
func TestBodyThatWasCutShort(t *testing.T) {
	body := text(3*fineCut + 100)
	for _, cut := range []int{10, fineCut, fineCut + 10, 3*fineCut + 1} {
		broken := io.MultiReader(bytes.NewReader(body[:cut]), iotest.ErrReader(web.ErrBodyCut))
		_, first, err := readPrinted(broken, nil)
		if !errors.Is(err, web.ErrBodyCut) || first.Whole || first.Length != int64(cut) {
			t.Fatalf("cut at %d: %+v, %v", cut, first, err)
		}
		if got, again, err := readPrinted(bytes.NewReader(body), first); err != nil || !bytes.Equal(got, body) || !again.Whole {
			t.Errorf("cut at %d, again: %d bytes, %v", cut, len(got), err)
		}
		other := bytes.Clone(body)
		other[cut-1] ^= 1
		if got, _, err := readPrinted(bytes.NewReader(other), first); err == nil || len(got) >= cut {
			t.Errorf("cut at %d, another: %d bytes, %v", cut, len(got), err)
		}
	}
}

func FuzzPrinted(f *testing.F) {
	f.Add([]byte("abc"), []byte("abc"), 2)
	f.Add([]byte("abc"), []byte("abd"), 3)
	f.Fuzz(func(t *testing.T, first, second []byte, cut int) {
		whole := cut < 0 || cut >= len(first)
		if !whole {
			first = first[:cut]
		}
		_, known, err := readPrinted(bytes.NewReader(first), nil)
		if err != nil {
			t.Fatal(err)
		}
		known.Whole = whole
		got, _, err := readPrinted(iotest.OneByteReader(bytes.NewReader(second)), known)
		same := bytes.Equal(first, second) || !whole && bytes.HasPrefix(second, first)
		if same != (err == nil) || err == nil && !bytes.Equal(got, second) {
			t.Fatalf("%q (whole: %v), then %q: %q, %v", first, whole, second, got, err)
		}
	})
}

func lines(n int, name string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(point(i%180, fmt.Sprintf(`,"name":"%s%d"`, name, i)) + "\n")
	}
	return b.String()
}

func TestKeyOfAnotherBody(t *testing.T) {
	r := newReal(t)
	const n = 4000 // some blocks
	body := lines(n, "a")
	r.do("POST", "/point", ndjson, body, keyed, "k").want(t, http.StatusAccepted, `"accepted":4000`)
	r.do("POST", "/point", ndjson, body, keyed, `"k"`, waiting, long).want(t, http.StatusOK, `"created":0,"unchanged":4000`)
	for _, other := range []string{lines(n, "b"), lines(n-1, "a"), lines(n+1, "a"), strings.Replace(body, "a3999", "a4000", 1)} {
		a := r.do("POST", "/point", ndjson, other, keyed, "k")
		a.want(t, http.StatusUnprocessableEntity, "used for another body")
	}
	r.do("POST", "/point", csvType, "lon,lat\n1,2\n", keyed, "k").want(t, http.StatusUnprocessableEntity, "used for another body")
	if got := r.query(`select count(*) || '/' || (select count(*) from parked) from points`); got != "4000/0" {
		t.Errorf("points/parked: %s", got)
	}
	// The same of a compressed body, and of one with another key.
	r.do("POST", "/point", ndjson, string(gzipped(body)), keyed, "k", "Content-Encoding", "gzip", waiting, long).want(t, http.StatusOK, `"unchanged":4000`)
	r.do("POST", "/point", ndjson, lines(2, "b"), keyed, "other", waiting, long).want(t, http.StatusOK, `"created":2`)
	// One of which nothing was accepted may be corrected.
	r.do("POST", "/point", ndjson, "bad\n", keyed, "corrected").want(t, http.StatusUnprocessableEntity)
	r.do("POST", "/point", ndjson, lines(1, "c"), keyed, "corrected").want(t, http.StatusAccepted)
	// The key of one point is not that of many; the point's own reuse is a conflict.
	r.do("POST", "/point", asJSON, point(1, ""), keyed, "one", waiting, long).want(t, http.StatusCreated)
	r.do("POST", "/point", csvType, "lon,lat\n1,2\n", keyed, "one").want(t, http.StatusUnprocessableEntity, "one point")
	r.do("POST", "/point", asJSON, point(2, ""), keyed, "one", waiting, long).want(t, http.StatusConflict, "was used for another point")
	r.do("POST", "/point", asJSON, point(2, ""), keyed, "one").want(t, http.StatusAccepted, "if this Idempotency-Key was used")
	// A point with an id of its own is known by that, whatever was sent under the key.
	r.do("POST", "/point", asJSON, point(2, `,"id":"own"`), keyed, "one", waiting, long).want(t, http.StatusCreated)
	r.do("POST", "/point", asJSON, point(2, `,"id":"own"`), keyed, "two", waiting, long).want(t, http.StatusOK, `"outcome":"unchanged"`)
	r.do("POST", "/point", ndjson, lines(1, "d"), keyed, "two").want(t, http.StatusAccepted)
	// The key of many is not that of one point, and a refused one does not stop the upload's retry.
	for _, path := range []string{"/point", "/collections/points/items"} {
		r.do("POST", path, asJSON, point(3, ""), keyed, "k", waiting, long).want(t, http.StatusUnprocessableEntity, "upload of many points")
	}
	r.do("POST", "/point", ndjson, body, keyed, "k", waiting, long).want(t, http.StatusOK, `"unchanged":4000`)
}

func TestUploadsAreRemembered(t *testing.T) {
	r := newReal(t)
	get := func(key string) answer { return r.do("GET", "/point/uploads/"+key, "", "") }
	get("k").want(t, http.StatusNotFound, "no upload")
	r.do("POST", "/point", ndjson, lines(1500, "a")+"bad\n", keyed, "a/b").want(t, http.StatusAccepted)
	testkit.Eventually(t, 20*time.Second, "its outcomes are known", func() bool { return get("a%2Fb").json["state"] == "done" })
	get("a%2Fb").want(t, http.StatusOK, `"accepted":1500,"rejected":1,"rejections":[{"row":1501,`, `"created":1500,"unchanged":0`)
	r.do("POST", "/point", ndjson, lines(3, "b"), keyed, "k", waiting, long).want(t, http.StatusOK, `"created":3`)
	get("k").want(t, http.StatusOK, `"state":"done"`, `"created":3`)
	r.halt()
	r.do("POST", "/point", ndjson, lines(3, "c"), keyed, "late").want(t, http.StatusAccepted)
	get("late").want(t, http.StatusOK, `"state":"projecting"`, `"open":3`)
	// After a restart, or to a neighbour, what was kept is known and no more.
	r.address = r.another()
	get("k").want(t, http.StatusOK, `"state":"done"`, `"created":3`)
	get("late").want(t, http.StatusOK, `"state":"done"`, `"accepted":3`, `"unknown":3`)
	r.do("POST", "/point", ndjson, lines(3, "d"), keyed, "late").want(t, http.StatusUnprocessableEntity, "used for another body")
}

// While an upload is read, another with its key waits, and then hears so.
func TestSameKeyAtOnce(t *testing.T) {
	q := &fakeQueue{stored: make(chan int, 10)}
	l := testLimits()
	l.flushAge = 10 * time.Millisecond
	address := serve(t, q, l)
	w := dial(t, address)
	w.send(head(ndjson, chunked, keyed+": k") + chunk(lines(1, "a")))
	<-q.stored // it is being read
	a := post(t, address, "/point", ndjson, lines(1, "a"), keyed, "k")
	if a.want(t, http.StatusConflict, "is being read"); a.header.Get("Retry-After") != "5" {
		t.Errorf("%v", a.header)
	}
	do(t, http.MethodGet, address, "/point/uploads/k", "", nil).want(t, http.StatusOK, `"state":"reading"`)
	post(t, address, "/point", ndjson, lines(1, "a"), keyed, "l").want(t, http.StatusAccepted)
	w.send(lastChunk)
	w.answer().want(t, http.StatusAccepted, `"accepted":1`)
	post(t, address, "/point", ndjson, lines(1, "a"), keyed, "k").want(t, http.StatusAccepted)
}
