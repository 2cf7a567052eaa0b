package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"cairn/loadtest/load"
	"cairn/loadtest/report"
)

// A test is one call of the tool.
type test struct {
	flags   *flags
	targets []load.Target // one, or two to compare
	plan    load.Plan
	mix     load.Mix
	display *display
	doc     report.Document
}

// run does what the flags ask for and writes the report, however it ended.
func (t *test) run(ctx context.Context) error {
	t.doc = report.Document{
		Title: "Load test", Made: time.Now(), Machine: report.Machine(), Settings: t.settings(),
		Bound: float64(t.flags.P95) / float64(time.Millisecond),
	}
	for _, target := range t.targets {
		if err := t.reach(ctx, target); err != nil {
			return err
		}
	}
	if t.flags.devices() {
		return t.sendFixes(ctx)
	}
	var err error
	switch {
	case t.flags.FindLimit:
		err = t.findLimits(ctx)
	case len(t.targets) == 2:
		err = t.compare(ctx)
	default:
		err = t.once(ctx)
	}
	if len(t.doc.Runs) == 0 {
		return err
	}
	path, err2 := t.doc.Write(t.flags.Out)
	if err2 != nil {
		return errors.Join(err, err2)
	}
	t.display.close(&t.doc, path)
	if err == nil && !t.doc.Passed() {
		err = errCrossed
	}
	return err
}

// reach asks once, so that a wrong address is known at once, and notes what the
// target says of itself.
func (t *test) reach(ctx context.Context, target load.Target) error {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.URL.JoinPath("status").String(), nil)
	if err != nil {
		return err
	}
	for _, h := range target.Header {
		req.Header.Set(h[0], h[1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("nothing answers at %s (\"make run\" starts Cairn there): %w", target.URL.Redacted(), err)
	}
	defer resp.Body.Close()
	t.doc.Machine = append(t.doc.Machine, report.Pair{Name: "Target " + target.URL.Host, Value: describe(resp)})
	return nil
}

// config is for one run on a target.
func (t *test) config(target load.Target, plan load.Plan, observe func(load.Progress)) load.Config {
	return load.Config{
		Target: target, Plan: plan, Mix: t.mix, Seed: t.flags.Seed, Name: fmt.Sprintf("load-%08x", rand.Uint32()),
		Follow: t.flags.Follow, Keep: int(t.flags.Verify), Observe: observe,
	}
}

// measure makes one run, looks its points up, and adds it to the report.
func (t *test) measure(ctx context.Context, label string, target load.Target, plan load.Plan) (*load.Result, error) {
	t.display.begin(label, target)
	r, err := load.Run(ctx, t.config(target, plan, t.display.progress))
	if err != nil {
		return nil, err
	}
	if t.flags.Verify > 0 {
		t.display.note("looking up the points that were acknowledged")
		r.Verify(context.WithoutCancel(ctx)) // a Ctrl-C ends the load, not the report
	}
	t.display.end(r)
	t.doc.Runs = append(t.doc.Runs, report.Run{Label: label, Result: r})
	return r, nil
}

// show gives the newest run a section of its own.
func (t *test) show() { t.doc.Runs[len(t.doc.Runs)-1].Shown = true }

func (t *test) once(ctx context.Context) error {
	r, err := t.measure(ctx, "The run", t.targets[0], t.plan)
	if err != nil {
		return err
	}
	t.show()
	bound := t.doc.Bound
	t.check(r.All.P95 <= bound, "p95 is %s; allowed are %s", report.Millis(r.All.P95), report.Millis(bound))
	t.check(t.flags.Failures.allows(r.All.Failures, r.All.Requests), "%s of %s requests failed; allowed are %s",
		report.Count(r.All.Failures), report.Count(r.All.Requests), t.flags.Failures.text)
	if r.All.Requests == 0 {
		t.check(false, "no request was made")
	}
	t.checkThere(r)
	return nil
}

func (t *test) check(ok bool, format string, args ...any) {
	t.doc.Checks = append(t.doc.Checks, report.Check{Text: fmt.Sprintf(format, args...), OK: ok})
}

// checkThere is about the durability of what was acknowledged.
func (t *test) checkThere(r *load.Result) {
	v := r.Verified
	if v == nil || v.Acknowledged == 0 {
		return
	}
	which := "all"
	if int64(v.Checked) < v.Acknowledged {
		which = "a random sample of " + report.Count(int64(v.Checked))
	}
	text := "of " + report.Count(v.Acknowledged) + " acknowledged points, " + which + " looked up (" + v.How + "): "
	if v.OK() {
		text += "every one is there"
	} else {
		text += fmt.Sprintf("%d missing, %d different, %d not answered for", v.Missing, v.Different, v.Unknown)
	}
	t.check(v.OK(), "%s", text)
}

// holds says whether a level kept within the bounds.
func (t *test) holds(r *load.Result) bool {
	there := r.Verified == nil || r.Verified.Missing+r.Verified.Different == 0
	return r.All.Requests > 0 && r.All.P95 <= t.doc.Bound && t.flags.Failures.allows(r.All.Failures, r.All.Requests) && there
}
