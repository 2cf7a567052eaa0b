package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A format is one of those that POST /point reads many points from.
type format struct {
	name        string
	contentType string
}

var (
	csvFormat  = format{"csv", "text/csv"}
	jsonFormat = format{"geojson", "application/geo+json"}
	lineFormat = format{"ndjson", "application/x-ndjson"}
	seqFormat  = format{"geojsonseq", "application/geo+json-seq"} // RFC 8142
)

var formatsByName = map[string]format{
	"csv": csvFormat, "geojson": jsonFormat, "ndjson": lineFormat, "geojsonseq": seqFormat,
}

var formatsByExtension = map[string]format{
	".csv": csvFormat, ".tsv": csvFormat,
	".geojson": jsonFormat, ".json": jsonFormat,
	".ndjson": lineFormat, ".jsonl": lineFormat, ".geojsonl": lineFormat,
	".geojsons": seqFormat,
}

var encodingsByExtension = map[string]string{".gz": "gzip", ".zst": "zstd"}

// hashBytes is read at a time for the key: large enough to keep a disk busy,
// small enough for a Ctrl-C to be seen at once.
const hashBytes = 256 << 10

// errChanged says that a file was written to while it was being loaded.
var errChanged = errors.New("the file changed while it was being loaded: wait until nothing writes to it, then load it again")

// A file is one that was checked, and what is to be sent with it.
type file struct {
	path     string // as the user wrote it
	format   format
	encoding string // gzip, zstd or ""
	mapping  mapping
}

// check looks at every file, so that a mistake in the last name does not come
// to light after an hour of loading the first.
func (l *loader) check() ([]file, error) {
	if len(l.cfg.Files) == 0 {
		return nil, errors.New("no file is named: cairn load FILE…")
	}
	if _, known := formatsByName[l.cfg.Format]; !known && l.cfg.Format != "" {
		return nil, fmt.Errorf("the format %q is not known: give csv, geojson, ndjson or geojsonseq", l.cfg.Format)
	}
	m, err := newMapping(&l.cfg)
	if err != nil {
		return nil, err
	}
	var files []file
	var wrong []error
	var anyCSV bool
	for _, path := range l.cfg.Files {
		f, err := l.checkFile(path)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", clean(path), err))
			continue
		}
		if f.format == csvFormat {
			anyCSV = true
			f.mapping = m.forFile(path)
		}
		files = append(files, f)
	}
	if len(wrong) == 0 && !anyCSV && len(m) > 0 {
		wrong = append(wrong, errors.New("columns, strings and the delimiter are of CSV, and no file is CSV: leave these flags out, or say --format csv"))
	}
	return files, errors.Join(wrong...)
}

func (l *loader) checkFile(path string) (file, error) {
	f := file{path: path}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, errors.New("there is no such file: check the name and the folder")
	case err != nil:
		return f, reason(err)
	case info.IsDir():
		return f, errors.New("this is a folder: name the files in it")
	case !info.Mode().IsRegular():
		return f, errors.New("this is not a regular file, and it must be read twice: save what comes out of it to a file first")
	case info.Size() == 0:
		return f, errors.New("the file is empty: check how it was made")
	}
	inner := strings.ToLower(path)
	f.encoding = encodingsByExtension[filepath.Ext(inner)]
	if f.encoding != "" {
		inner = strings.TrimSuffix(inner, filepath.Ext(inner))
	}
	var known bool
	if l.cfg.Format != "" {
		f.format = formatsByName[l.cfg.Format]
	} else if f.format, known = formatsByExtension[filepath.Ext(inner)]; !known {
		return f, errors.New("the extension does not tell the format: say --format csv, geojson, ndjson or geojsonseq")
	}
	opened, err := os.Open(path)
	if err != nil {
		return f, reason(err)
	}
	return f, opened.Close()
}

// reason is an error without the path, which the caller's message has already.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// An openFile stays open from the first reading to the last, so that a file
// that is replaced under its name meanwhile is still the same one here.
type openFile struct {
	*os.File
	size     int64
	modified time.Time
}

func open(path string) (*openFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, reason(err)
	}
	return &openFile{File: f, size: info.Size(), modified: info.ModTime()}, nil
}

// unchanged returns errChanged if the file was written to since it was opened.
func (f *openFile) unchanged() error {
	info, err := f.Stat()
	if err != nil {
		return reason(err)
	}
	if info.Size() != f.size || !info.ModTime().Equal(f.modified) {
		return errChanged
	}
	return nil
}

// key is the Idempotency-Key: rows get their ids from it and from their number,
// so the same key must mean the same rows. That is why it is made of the bytes
// and of all that decides how they are read. A path or a date will not do: a
// copy in another folder or a fresh download would be added a second time, and
// a file that was corrected in place would be taken for the one before. The
// price is that the file is read twice.
func (f *openFile) key(ctx context.Context, of *file) (string, error) {
	hash := sha256.New()
	_, _ = fmt.Fprintf(hash, "cairn load 1\nformat %q\nmapping %q\n\n", of.format.name, of.mapping.query().Encode())
	section := io.NewSectionReader(f, 0, f.size)
	buffer := make([]byte, hashBytes)
	for ctx.Err() == nil {
		n, err := section.Read(buffer)
		_, _ = hash.Write(buffer[:n])
		if err == io.EOF {
			return hex.EncodeToString(hash.Sum(nil)), f.unchanged()
		}
		if err != nil {
			return "", fmt.Errorf("read the file: %w", reason(err))
		}
	}
	return "", context.Cause(ctx)
}
