package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"cairn/ingest/format"
	"cairn/internal/web"
)

const (
	// maxRatio and unpackedFree bound what a packed body unpacks to: gzip
	// cannot exceed 1,032 to 1, and points do not come near it. Memory is flat
	// either way; this is for the queue's sake.
	maxRatio     = 1000
	unpackedFree = 1 << 20
	// A packed body pays for the work that it makes: with points, or with its own
	// length. What brings neither, such as blank lines and rows that are refused, is
	// read to wasteFree bytes (0.2 s of a core) and wasteRatio times what was sent. A
	// point pays for pointPays times the bytes that are stored of it, for XML is
	// longer than they are; a refused row costs as much as rejectionBytes.
	wasteFree      = 16 << 20
	wasteRatio     = 8
	pointPays      = 16
	rejectionBytes = 64
	// storedRatio and storedFree bound what is stored of a packed body by what was sent of
	// it: the names of a table's columns, and what an event has besides, are stored with
	// each point, so that 13 kB could fill 110 MB of the queue, and much more. Real tables
	// and fleets store 10 to 50 times what was sent; what hardly changes from row to row,
	// such as a sensor's readings or a parked car's fixes, 90 to 160 times. A body that is
	// not packed costs its sender what it brings: real ones store 1 to 16 times their size.
	storedRatio = 256
	storedFree  = 8 << 20
	// maxWindow is what RFC 9659 lets a zstd body ask for.
	maxWindow = 8 << 20
	// acceptedCodings goes out with a 415 (RFC 9110, section 15.5.16).
	acceptedCodings = "gzip, zstd"
)

// An input is a request's body, unpacked. Its errors are io.EOF at the end and
// else *web.Problem.
type input struct {
	body     *web.Body
	gzip     *gzip.Reader
	zstd     *zstd.Decoder
	started  bool
	begun    []byte // what was read of the body to see that it is packed
	reads    int64  // calls of Read
	unpacked int64
	turn     int64 // of unpacked, at which others go first
	paid     int64 // of unpacked, by points; less what refused rows cost
	kept     int64 // bytes that are stored of it
	err      error // sticky
}

var (
	inputs       = sync.Pool{New: func() any { return &input{} }}
	gzipReaders  = sync.Pool{New: func() any { return &gzip.Reader{} }}
	zstdDecoders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			panic(err) // constant options
		}
		return d
	}}
)

// openInput reads Content-Encoding. Close what it returns.
func openInput(c *fiber.Ctx) (*input, error) {
	coding := web.FieldOf(c, web.ContentEncoding)
	in := inputs.Get().(*input)
	*in = input{body: web.RequestBody(c), turn: format.ReadBuffer}
	if len(coding) == 0 {
		return in, nil
	}
	switch strings.ToLower(string(coding)) {
	case "gzip", "x-gzip":
		in.gzip = gzipReaders.Get().(*gzip.Reader)
	case "zstd":
		in.zstd = zstdDecoders.Get().(*zstd.Decoder)
	case "identity":
	default:
		inputs.Put(in)
		c.Set(fiber.HeaderAcceptEncoding, acceptedCodings)
		return nil, &web.Problem{
			Status: http.StatusUnsupportedMediaType,
			Detail: "the Content-Encoding " + format.Quote(string(coding)) + " is not taken: send one of " + acceptedCodings + ", or none",
		}
	}
	return in, nil
}

func (in *input) close() {
	if in.gzip != nil {
		gzipReaders.Put(in.gzip)
	}
	if in.zstd != nil {
		_ = in.zstd.Reset(nil) // drops the body
		zstdDecoders.Put(in.zstd)
	}
	*in = input{}
	inputs.Put(in)
}

func (in *input) coded() bool { return in.gzip != nil || in.zstd != nil }

// stored notes that a point came of what was read, and how long it is as an event. Its
// error says that this would be more than so few bytes may bring: it is not noted then.
func (in *input) stored(bytes int) error {
	if in == nil {
		return nil
	}
	if in.coded() && in.kept+int64(bytes) > storedRatio*in.body.Count()+storedFree {
		return &web.Problem{
			Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("what would be stored is more than %d MiB and %d times what was sent of the packed body: send it not packed, or in smaller parts", storedFree>>20, storedRatio),
		}
	}
	in.kept += int64(bytes)
	in.paid += pointPays * int64(bytes)
	return nil
}

// refused notes that a row was.
func (in *input) refused() {
	if in != nil {
		in.paid -= rejectionBytes
	}
}

// Read lets others go first: what is packed, or comes fast, may be work for a core
// for as long as it lasts, and whoever reads a page must not wait for all uploads.
func (in *input) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	in.reads++
	if in.unpacked >= in.turn {
		in.turn = in.unpacked + format.ReadBuffer
		runtime.Gosched()
	}
	n, err := in.read(p)
	if err != nil && err != io.EOF {
		err = in.problem(err)
	}
	if in.unpacked += int64(n); in.coded() && in.unpacked > maxRatio*in.body.Count()+unpackedFree {
		n, err = 0, &web.Problem{
			Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the body unpacks to more than %d times its size", maxRatio),
		}
	} else if in.coded() && in.unpacked-in.paid > wasteRatio*in.body.Count()+wasteFree {
		n, err = 0, &web.Problem{
			Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the body unpacks to more than %d MiB that bring no point: send it not packed, or without the rows that are refused", wasteFree>>20),
		}
	}
	in.err = err
	return n, err
}

func (in *input) read(p []byte) (n int, err error) {
	if !in.started {
		in.started = true
		if !in.coded() {
			if n, err = in.body.Read(p); !in.packed(p[:n]) {
				return n, err
			}
			n, err = 0, nil
		}
		switch {
		case in.gzip != nil:
			err = in.gzip.Reset(in.source())
		case in.zstd != nil:
			err = in.zstd.Reset(in.source())
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // a packed nothing still has a header
		}
		if err != nil {
			return 0, err
		}
	}
	switch {
	case in.gzip != nil:
		return in.gzip.Read(p)
	case in.zstd != nil:
		return in.zstd.Read(p)
	}
	return in.body.Read(p)
}

// packed tells by its first bytes that a body is packed although its header does
// not say so, which is what a file sent as it is looks like.
func (in *input) packed(begun []byte) bool {
	switch {
	case bytes.HasPrefix(begun, []byte("\x1f\x8b")):
		in.gzip = gzipReaders.Get().(*gzip.Reader)
	case bytes.HasPrefix(begun, []byte("\x28\xb5\x2f\xfd")):
		in.zstd = zstdDecoders.Get().(*zstd.Decoder)
	default:
		return false
	}
	in.begun = bytes.Clone(begun)
	return true
}

// source is the body from its beginning.
func (in *input) source() io.Reader {
	if in.begun == nil {
		return in.body
	}
	return io.MultiReader(bytes.NewReader(in.begun), in.body)
}

// problem says why the body cannot be read on.
func (in *input) problem(err error) *web.Problem {
	cause := in.body.Err()
	switch {
	case errors.Is(cause, os.ErrDeadlineExceeded):
		return &web.Problem{
			Status: http.StatusRequestTimeout,
			Detail: "the body stopped coming, for longer than is waited",
		}
	case errors.Is(cause, web.ErrBodyCut):
		return web.BadRequest("the body is cut: " + cause.Error())
	case cause != nil && cause != io.EOF:
		return web.BadRequest("the body cannot be read: " + cause.Error())
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return &web.Problem{
			Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the zstd data needs a window of more than %d bytes, which RFC 9659 does not allow", maxWindow),
		}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return web.BadRequest("the packed body ends too early")
	}
	return web.BadRequest("the packed body is damaged: " + err.Error())
}
