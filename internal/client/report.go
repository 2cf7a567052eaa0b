package client

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// say writes for people. A terminal that went away does not stop a load.
func say(w io.Writer, format string, args ...any) {
	if w != nil {
		_, _ = fmt.Fprintf(w, format, args...)
	}
}

// report writes a file's result and the rows that were rejected.
func (l *loader) report(f *file, r result, took time.Duration) {
	name := clean(f.path)
	line := name + ": " + counts(r.Accepted, r.Rejected, took)
	if r.Position > 0 {
		line += fmt.Sprintf(", position %d", r.Position)
	}
	say(l.cfg.Out, "%s\n", line)
	for _, row := range r.Rejections {
		say(l.cfg.Out, "%s: row %d: %s%s\n", name, row.Row, clean(row.Reason), at(row.Pointer))
	}
	if more := r.Rejected - int64(len(r.Rejections)); more > 0 {
		say(l.cfg.Out, "%s: and %s more\n", name, thousands(more))
	}
}

func (l *loader) reportTotal(t *tally, files int) {
	say(l.cfg.Out, "total: %s of %s: %d accepted, %d rejected\n",
		thousands(int64(len(t.done))), plural(int64(files), "file"), t.accepted, t.rejected)
}

func counts(accepted, rejected int64, took time.Duration) string {
	s := fmt.Sprintf("%d accepted, %d rejected in %s", accepted, rejected, readableDuration(took))
	if took > 0 {
		s += fmt.Sprintf(" (%s)", rate(accepted+rejected, took))
	}
	return s
}

// A tally adds up the files of a run.
type tally struct {
	accepted, rejected int64
	done, failed       []string // names
	causes             []error
}

func (t *tally) add(f *file, r result, err error) {
	t.accepted += r.Accepted
	t.rejected += r.Rejected
	if err == nil {
		t.done = append(t.done, clean(f.path))
		return
	}
	t.failed = append(t.failed, clean(f.path))
	t.causes = append(t.causes, err)
}

// err is the run's error: what failed, and what was rejected.
func (t *tally) err(files int) error {
	var failed, rejected error
	switch {
	case len(t.failed) > 0 && files == 1:
		failed = fmt.Errorf("%s: %w", t.failed[0], t.causes[0])
	case len(t.failed) > 0:
		failed = &runError{fmt.Sprintf("%d of %d files failed: %s", len(t.failed), files, strings.Join(t.failed, ", ")), t.causes}
	}
	if t.rejected > 0 {
		rejected = fmt.Errorf("%s of %s %w", thousands(t.rejected), plural(t.accepted+t.rejected, "row"), ErrRejected)
	}
	return errors.Join(failed, rejected)
}

// safely is why nobody needs to undo anything.
const safely = "Running the same command again continues safely: rows that are in are not added twice."

// interrupted is the error of a run that the user ended in the middle of f.
func (t *tally) interrupted(f *file, r result, cause error) error {
	var known string
	switch {
	case r.Accepted+r.Rejected > 0:
		known = fmt.Sprintf("at least %s of it accepted", plural(r.Accepted, "row"))
	case r.sentBytes == 0:
		known = "nothing of it was sent"
	case r.sentRows == 0:
		known = fmt.Sprintf("%s of it were sent, what of that was accepted is not known", plural(r.sentBytes, "byte"))
	default:
		known = fmt.Sprintf("%s of it were sent, how many were accepted is not known", plural(r.sentRows, "row"))
	}
	message := fmt.Sprintf("interrupted in %s: %s.", clean(f.path), known)
	return &runError{message + t.before() + " " + safely, []error{cause}}
}

// gaveUp is the error of a run that the server failed.
func (t *tally) gaveUp(files int, err error) error {
	last := len(t.failed) - 1
	message := fmt.Sprintf("%s: %v.", t.failed[last], err)
	if left := files - len(t.done) - len(t.failed); left > 0 {
		message += fmt.Sprintf(" %s not sent.", plural(int64(left), "file"))
	}
	causes := append([]error(nil), t.causes...)
	if t.rejected > 0 {
		causes = append(causes, ErrRejected)
	}
	return &runError{message + t.before() + " " + safely, causes}
}

// before names what is complete.
func (t *tally) before() string {
	if len(t.done) == 0 {
		return ""
	}
	return " Complete: " + strings.Join(t.done, ", ") + "."
}

// A runError has a text of its own, for people, and the causes for errors.Is.
type runError struct {
	message string
	causes  []error
}

func (e *runError) Error() string   { return e.message }
func (e *runError) Unwrap() []error { return e.causes }
