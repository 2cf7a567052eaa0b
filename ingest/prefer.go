package ingest

import (
	"bytes"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/web"
)

const (
	// maxWait bounds what a client may ask for: proxies give up after 60 s.
	maxWait = 30 * time.Second
	// anyWait is for those who do not say how long, which RFC 7240 does not have.
	anyWait = 10 * time.Second
)

const (
	headerPrefer            = "Prefer"
	headerPreferenceApplied = "Preference-Applied"
)

// A wait is how long a client prefers to wait for the outcome.
type wait struct {
	time  time.Duration
	asked bool // Prefer: wait=SECONDS (RFC 7240, section 4.3)
	async bool // Prefer: respond-async (section 4.1)
}

// waitOf reads the preferences. One that cannot be read is none: a preference is
// never a reason to refuse (RFC 7240, section 2).
func waitOf(c *fiber.Ctx) wait {
	field := web.FieldOf(c, web.Prefer)
	if len(field) == 0 {
		return wait{}
	}
	if lines := c.Request().Header.PeekAll(headerPrefer); len(lines) > 1 {
		field = bytes.Join(lines, []byte(","))
	}
	return parsePrefer(field)
}

func parsePrefer(field []byte) (w wait) {
	waits := 0
	for item := range bytes.SplitSeq(field, []byte{','}) {
		item, _, _ = bytes.Cut(item, []byte{';'})
		name, value, _ := bytes.Cut(item, []byte{'='})
		name = bytes.TrimSpace(name)
		if bytes.EqualFold(name, []byte("respond-async")) {
			w.async = true
		}
		if !bytes.EqualFold(name, []byte("wait")) {
			continue
		}
		if waits++; waits > 1 { // the first one counts (RFC 7240, section 2)
			continue
		}
		text := bytes.Trim(bytes.TrimSpace(value), `"`)
		if len(text) == 0 {
			w.time, w.asked = anyWait, true
			continue
		}
		if seconds, err := strconv.ParseUint(string(text), 10, 31); err == nil && seconds > 0 {
			w.time, w.asked = min(time.Duration(seconds)*time.Second, maxWait), true
		}
	}
	return w
}

// applied is the field Preference-Applied of an answer that was waited for.
func (w wait) applied() string { return "wait=" + strconv.Itoa(int(w.time.Seconds())) }
