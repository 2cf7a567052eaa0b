package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/web"
	"cairn/query/export"
	"cairn/query/plan"
)

const (
	// maxDownloads bounds those that run at once: each has a connection to the
	// database, a snapshot that it keeps, and a core's worth of encoding.
	maxDownloads = 2
	// addressDownloads is the part of them that one client address may have: a half.
	addressDownloads = 2
	// downloadTime bounds one, and so how long its snapshot keeps the database
	// from clearing away old rows: 10 million rows over a good line.
	downloadTime = time.Hour
	// downloadStall is how long a client may take for a piece, of 64 KiB, before it is
	// cut off.
	downloadStall = 60 * time.Second
)

// GET /points.{format}: everything that the filters let through as one file, in one
// snapshot, whose position the field Cairn-Position has. What breaks off on the way
// is seen by the client: the body ends without its last chunk.
func (s *service) getDownload(c *fiber.Ctx) error {
	format := export.Find(c.Params("format"))
	if format == nil {
		return &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no format %q; there are geojson, geojsonseq, ndjson, csv, parquet, gpx and kml", c.Params("format"))}
	}
	q, err := askedItems(c, downloadParameters)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, format.Media)
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="points.`+format.Name+`"`)
	c.Set(fiber.HeaderCacheControl, "no-store")
	if c.Method() == http.MethodHead {
		return nil
	}
	slot, err := s.downloads.take(c, s.draining.Done())
	if err != nil {
		return err
	}
	d := s.newDownload(slot, func(ctx context.Context, w io.Writer, began func(uint64)) error {
		return s.writePoints(ctx, w, began, format, q)
	})
	return s.sendDownload(c, d)
}

// sendDownload answers with it as soon as it has its snapshot.
func (s *service) sendDownload(c *fiber.Ctx, d *download) error {
	d.endWith(web.Ends(c))
	sequence, err := d.snapshot()
	if err != nil {
		return s.refuse(c, err)
	}
	setPosition(c, sequence)
	c.Context().SetBodyStream(d, -1)
	return nil
}

// snapshot is the sequence of what is written, or why nothing is.
func (d *download) snapshot() (sequence uint64, err error) {
	select {
	case sequence = <-d.began:
	case <-d.ended: // a short one may be whole by now
		if d.err != nil {
			return 0, d.err
		}
		sequence = <-d.began
	}
	return sequence, nil
}

// A download is the body of an answer, made while it is read.
type download struct {
	slot   *slot
	pieces *pieces
	begun  bool        // the server has the beginning
	began  chan uint64 // the snapshot's sequence
	ended  chan struct{}
	err    error // when ended
	cancel context.CancelFunc
}

// newDownload begins one, which write makes, and leaves the slot at its end.
func (s *service) newDownload(slot *slot, write func(ctx context.Context, w io.Writer, began func(sequence uint64)) error) *download {
	ctx, cancel := slot.bound(s.draining, downloadTime)
	d := &download{slot: slot, pieces: newPieces(), began: make(chan uint64, 1), ended: make(chan struct{}), cancel: cancel}
	go func() {
		defer slot.leave()
		defer cancel()
		d.err = slot.reason(write(ctx, d.pieces, func(sequence uint64) { d.began <- sequence }))
		close(d.ended)
		if d.err != nil && d.err != errLeft && !errors.Is(d.err, io.ErrClosedPipe) {
			s.log.Warn("a download broke off", "error", d.err)
		}
		d.pieces.end(d.err)
	}()
	return d
}

// endWith ends the download when whoever asked for it may not any more.
func (d *download) endWith(gone <-chan struct{}, expires time.Time) {
	if !expires.IsZero() {
		timer := time.AfterFunc(time.Until(expires), d.cancel)
		go func() { <-d.ended; timer.Stop() }()
	}
	if gone != nil {
		go func() {
			select {
			case <-gone:
				d.cancel()
			case <-d.ended:
			}
		}()
	}
}

// writePoints encodes all there is into w.
func (s *service) writePoints(ctx context.Context, w io.Writer, began func(uint64), format *export.Format, q *itemsQuery) error {
	var scratch row
	writer := format.New(export.Options{Properties: q.properties, Spreadsheet: q.spreadsheet, Feature: func(dst []byte, r plan.Row) ([]byte, error) {
		scratch = rowOf(scratch, r)
		return appendSelected(dst, scratch, q.properties)
	}})
	piece := make([]byte, 0, downloadPiece+downloadPiece/4)
	flush := func(least int) error {
		if len(piece) < least || len(piece) == 0 {
			return nil
		}
		_, err := w.Write(piece)
		piece = piece[:0]
		return err
	}
	rows := 0
	err := s.reader.All(ctx, q.Filter, func(sequence uint64) error {
		began(sequence)
		piece = writer.Begin(piece)
		return nil
	}, func(r plan.Row) (err error) {
		rows++
		if piece, err = writer.Row(piece, r); err != nil {
			return err
		}
		return flush(downloadPiece)
	})
	s.metrics.rows.Add(float64(rows))
	if err != nil {
		return err
	}
	if piece, err = writer.End(piece); err != nil {
		return err
	}
	return flush(0)
}
