package ingest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"

	"cairn/internal/web"
)

const (
	// A body is compared at cuts: every fineCut bytes of its first fineCuts cuts,
	// which is all of the usual one, then every coarseCut; after maxCuts (452 MiB)
	// at its end only.
	fineCut, fineCuts  = 64 << 10, 64
	coarseCut, maxCuts = 1 << 20, 512
	// cutSum is how many bytes of the SHA-256 are kept of a cut. They tell a
	// mistake, not a forger: whoever has the key may send what he likes.
	cutSum = 8
)

// cutAt is where the cut i is, from 0.
func cutAt(i int) int64 {
	if i < fineCuts {
		return int64(i+1) * fineCut
	}
	return fineCuts*fineCut + int64(i-fineCuts+1)*coarseCut
}

// A fingerprint identifies an unpacked body when it is sent again.
type fingerprint struct {
	Length int64  `json:"length"` // what was read of it
	Whole  bool   `json:"whole"`  // its end was read
	Cuts   []byte `json:"cuts"`   // of the sum at each cut up to there
	End    []byte `json:"end"`    // of the sum at Length
}

// A fingerprinter reads a body and takes its fingerprint. Where that of an earlier body
// with the same key is known it gives out what is the same, and fails with a
// *web.Problem before the first block that is not: so nothing that differs is ever
// stored under the key.
type fingerprinter struct {
	r     io.Reader
	known *fingerprint
	sum   hash.Hash
	print fingerprint
	held  []byte       // compared, and not given out yet
	err   error        // sticky
	other *web.Problem // the body is another one
}

func newFingerprinter(r io.Reader, known *fingerprint) *fingerprinter {
	return &fingerprinter{r: r, known: known, sum: sha256.New()}
}

func (p *fingerprinter) Read(dst []byte) (int, error) {
	if len(p.held) == 0 && p.err == nil {
		n, err := p.next(dst)
		if err != nil {
			p.err = err
		}
		if n > 0 {
			return n, nil
		}
	}
	if len(p.held) > 0 {
		n := copy(dst, p.held)
		p.held = p.held[n:]
		return n, nil
	}
	return 0, p.err
}

// next reads up to the next place where sums are taken: into dst, or into held
// where there is something to compare with.
func (p *fingerprinter) next(dst []byte) (int, error) {
	at, compared := int64(-1), false
	if cuts := len(p.print.Cuts) / cutSum; cuts < maxCuts {
		at = cutAt(cuts)
	}
	if k := p.known; k != nil && p.print.Length < k.Length {
		compared = true
		if at < 0 || at > k.Length {
			at = k.Length
		}
	} else if k != nil && k.Whole {
		return 0, p.end(dst[:1])
	}
	left := int64(len(dst))
	if at >= 0 {
		left = at - p.print.Length
	}
	if compared && left <= coarseCut {
		return 0, p.hold(int(left))
	}
	n, err := p.r.Read(dst[:min(int64(len(dst)), left)])
	return n, p.took(dst[:n], err)
}

// hold reads a block of just n bytes and compares it.
func (p *fingerprinter) hold(n int) error {
	block := make([]byte, n)
	n, err := io.ReadFull(p.r, block)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	if err = p.took(block[:n], err); err == nil {
		p.held = block
	}
	return err
}

// took adds what was read to the print, and compares it where that can be done.
func (p *fingerprinter) took(text []byte, err error) error {
	p.sum.Write(text)
	p.print.Length += int64(len(text))
	if cuts := len(p.print.Cuts) / cutSum; cuts < maxCuts && p.print.Length == cutAt(cuts) {
		p.print.Cuts = append(p.print.Cuts, p.now()...)
		if k := p.known; k != nil && len(k.Cuts) >= len(p.print.Cuts) && !bytes.Equal(k.Cuts[:len(p.print.Cuts)], p.print.Cuts) {
			return p.differs()
		}
	}
	if k := p.known; k != nil {
		switch {
		case p.print.Length == k.Length && !bytes.Equal(k.End, p.now()),
			err == io.EOF && p.print.Length < k.Length:
			return p.differs()
		}
	}
	p.print.Whole = err == io.EOF
	return err
}

// end wants the body's end.
func (p *fingerprinter) end(one []byte) error {
	for {
		n, err := p.r.Read(one)
		if n > 0 {
			p.print.Length++
			return p.differs()
		}
		if err != nil {
			p.print.Whole = err == io.EOF
			return err
		}
	}
}

func (p *fingerprinter) now() []byte { return p.sum.Sum(nil)[:cutSum] }

func (p *fingerprinter) differs() error {
	p.other = &web.Problem{
		Status: http.StatusUnprocessableEntity,
		Detail: fmt.Sprintf("this %s was used for another body, which is the same for fewer than the first %d bytes: nothing of what differs is stored. Send another body with a key of its own", headerIdempotencyKey, p.print.Length),
	}
	return p.other
}

// result is the print so far.
func (p *fingerprinter) result() *fingerprint {
	result := p.print
	result.End = p.now()
	return &result
}
