package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cairn/ingest/format"
)

// kindsByName are what --format takes.
var kindsByName = map[string]format.Kind{
	"csv": format.Table, "geojson": format.JSON, "json": format.JSON, "ndjson": format.Lines, "geojsonseq": format.Sequence,
	"gpx": format.GPX, "kml": format.KML,
}

const formatNames = "csv, geojson, ndjson, geojsonseq, gpx or kml"

// stdin is what stands for the standard input among the files.
const stdin = "-"

// errChanged says that a file was written to while it was being loaded.
var errChanged = errors.New("the file changed while it was being loaded: wait until nothing writes to it, then load it again")

// A file is one that was checked, and how to read it.
type file struct {
	path  string      // as the user wrote it
	real  string      // where it is
	kind  format.Kind // 0: by how it begins
	query string
}

// check looks at every file, so that a mistake in the last name does not come
// to light after an hour of loading the first.
func (l *loader) check(ctx context.Context) ([]file, error) {
	if len(l.cfg.Files) == 0 {
		return nil, errors.New("no file is named: cairn load FILE…")
	}
	if _, known := kindsByName[l.cfg.Format]; !known && l.cfg.Format != "" {
		return nil, fmt.Errorf("the format %q is not known: give %s", l.cfg.Format, formatNames)
	}
	if _, err := format.ParseFlags(format.Table, l.cfg.query()); err != nil {
		return nil, inWords(err)
	}
	var files []file
	var wrong []error
	anyTable := false
	for _, path := range l.cfg.Files {
		found, err := l.find(ctx, path)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", clean(path), err))
		}
		for _, f := range found {
			f, err := l.checkFile(f)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", clean(f.path), err))
				continue
			}
			anyTable = anyTable || f.kind == format.Table || f.kind == 0
			files = append(files, f)
		}
	}
	if _, had := forOthers(l.cfg.query()); len(wrong) == 0 && had && !anyTable {
		wrong = append(wrong, errors.New("columns, strings and the delimiter are of CSV, and no file is CSV: leave these flags out, or say --format csv"))
	}
	return files, errors.Join(wrong...)
}

// find is the files that a name stands for: itself, those in a folder, or what
// comes in, which is kept until the load ends because it is read twice.
func (l *loader) find(ctx context.Context, path string) ([]file, error) {
	if path == stdin {
		spooled, err := l.spool(ctx)
		return []file{{path: "stdin", real: spooled}}, err
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return []file{{path: path, real: path}}, nil
	}
	var files []file
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return reason(err)
		case strings.HasPrefix(entry.Name(), ".") && name != path:
			if entry.IsDir() {
				return fs.SkipDir
			}
		case strings.Contains(entry.Name(), ".rejected."):
		case entry.Type().IsRegular():
			if kind, err := format.KindOfFile(name); kind != 0 || err != nil {
				files = append(files, file{path: name, real: name})
			}
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = errors.New("no file in this folder has an extension that tells its format: name the files")
	}
	return files, err
}

// spool keeps what comes in in a file that goes when the load ends.
func (l *loader) spool(ctx context.Context) (string, error) {
	if l.cfg.In == nil {
		return "", errors.New("there is no standard input")
	}
	f, err := os.CreateTemp("", "cairn-load-*")
	if err != nil {
		return "", err
	}
	l.spooled = append(l.spooled, f.Name())
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(f, l.cfg.In)
		done <- errors.Join(err, f.Close())
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return f.Name(), err
}

func (l *loader) checkFile(f file) (file, error) {
	info, err := os.Stat(f.real)
	switch {
	case strings.Contains(f.path, "://"):
		return f, errors.New("this is an address, not a file: curl it and pipe what comes to cairn load -")
	case errors.Is(err, fs.ErrNotExist):
		return f, errors.New("there is no such file: check the name and the folder")
	case err != nil:
		return f, reason(err)
	case !info.Mode().IsRegular():
		return f, errors.New("this is not a regular file, and it must be read twice: pipe what comes out of it to cairn load -")
	case info.Size() == 0:
		return f, errors.New("the file is empty and has no points: check how it was made")
	}
	f.query = l.cfg.query()
	if f.kind = kindsByName[l.cfg.Format]; f.kind == 0 {
		if f.kind, err = format.KindOfFile(f.path); err != nil {
			return f, inFile(f.path, err)
		}
	}
	opened, err := os.Open(f.real)
	if err != nil {
		return f, reason(err)
	}
	return f, opened.Close()
}

// inFile is the error of a file that another program must read, with its name in
// the command that does.
func inFile(path string, err error) error {
	return errors.New(strings.ReplaceAll(inWords(err).Error(), "FILE", clean(path)))
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
