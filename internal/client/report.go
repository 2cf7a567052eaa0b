package client

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"cairn/ingest/format"
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
	l.reportOutcomes(name, &r.answer)
	if r.warnings != nil {
		reportWarnings(l.cfg.Out, name, r.warnings)
	}
	for _, row := range r.Rejections {
		say(l.cfg.Out, "%s: row %d: %s%s\n", name, row.Row, clean(row.Reason), at(row.Pointer))
	}
	if more := r.Rejected - int64(len(r.Rejections)); more > 0 {
		say(l.cfg.Out, "%s: and %s more\n", name, thousands(more))
	}
	if rejected := r.rejects.name(); rejected != "" {
		say(l.cfg.Out, "%s: the rejected rows are in %s: correct them there, then cairn load %s\n", name, clean(rejected), clean(rejected))
	}
}

// reportOutcomes writes what became of the rows, where the server told.
func (l *loader) reportOutcomes(name string, a *answer) {
	if a.Created == nil {
		return
	}
	line := fmt.Sprintf("%s: %s created, %s unchanged", name, thousands(*a.Created), thousands(a.Unchanged-a.DeletedBefore))
	for _, one := range []struct {
		n    int64
		what string
	}{
		{a.DeletedBefore, "deleted before"}, {a.Replaced, "replaced"}, {a.Deleted, "deleted"}, {a.Missing, "not there to be deleted"}, {a.Refused, "refused by the database"},
		{a.Open, "not yet projected"}, {a.Unknown, "of unknown outcome"},
	} {
		if one.n > 0 {
			line += fmt.Sprintf(", %s %s", thousands(one.n), one.what)
		}
	}
	say(l.cfg.Out, "%s\n", line)
	if a.Conflicts > 0 {
		say(l.cfg.Out, "%s: %s in conflict%s: the id is there with other content, which stays; --replace replaces it\n",
			name, plural(a.Conflicts, "row"), rowsOf(a.Rows["conflicts"], a.Conflicts))
	}
	if a.DeletedBefore > 0 {
		say(l.cfg.Out, "%s: %s of points that were deleted%s, which stay so: --replace creates them again\n",
			name, plural(a.DeletedBefore, "row"), rowsOf(a.Rows["deleted_before"], a.DeletedBefore))
	}
}

// rowsOf names some rows.
func rowsOf(rows []int64, all int64) string {
	const most = 10
	if len(rows) == 0 {
		return ""
	}
	names := make([]string, 0, most)
	for _, row := range rows[:min(len(rows), most)] {
		names = append(names, strconv.FormatInt(row, 10))
	}
	text := " (row " + strings.Join(names, ", ")
	if int64(len(names)) < all {
		text += ", …"
	}
	return text + ")"
}

// reportWarnings writes what went in, but perhaps not as it was meant.
func reportWarnings(w io.Writer, name string, warnings *format.Warnings) {
	for _, one := range warnings.List() {
		where := ""
		if one.Row > 0 {
			where = fmt.Sprintf("row %d: ", one.Row)
		}
		if one.Field != "" {
			where += clean(one.Field) + ": "
		}
		times := ""
		if one.Count > 1 {
			times = fmt.Sprintf(" (%s so)", plural(one.Count, "row"))
		}
		say(w, "%s: warning: %s%s%s\n", name, where, clean(one.Reason), times)
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
	apart              int64    // in conflict, or refused by the database: parked, not in
	deleted            int64    // of points that were deleted before: not in
	done, failed       []string // names
	causes             []error
}

func (t *tally) add(f *file, r result, err error) {
	t.accepted += r.Accepted
	t.rejected += r.Rejected
	t.apart += r.Conflicts + r.Refused
	t.deleted += r.DeletedBefore
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
	all := plural(t.accepted+t.rejected, "row")
	switch {
	case t.rejected > 0 && t.apart > 0:
		rejected = fmt.Errorf("%s of %s %w, and %s parked", thousands(t.rejected), all, ErrRejected, thousands(t.apart))
	case t.rejected > 0:
		rejected = fmt.Errorf("%s of %s %w", thousands(t.rejected), all, ErrRejected)
	case t.apart > 0:
		rejected = &runError{fmt.Sprintf("%s of %s did not go in, but were parked", thousands(t.apart), all), []error{ErrRejected}}
	}
	switch {
	case t.deleted > 0 && rejected != nil:
		rejected = &runError{fmt.Sprintf("%v, and %s of deleted points", rejected, thousands(t.deleted)), []error{ErrRejected}}
	case t.deleted > 0:
		rejected = &runError{fmt.Sprintf("%s of %s did not go in: their points were deleted", thousands(t.deleted), all), []error{ErrRejected}}
	}
	if failed == nil && rejected != nil {
		return &runError{rejected.Error(), []error{rejected, ErrOnlyRejected}}
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
