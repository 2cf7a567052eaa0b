package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"cairn/loadtest/fleet"
	"cairn/loadtest/report"
)

// fleet is the run of --devices.
func (f *flags) fleet() (fleet.Config, error) {
	c := fleet.Config{HTTP: f.Devices, MQTT: f.DevicesMQTT, MQTTAddress: f.MQTT, User: f.MQTTUser, Password: f.MQTTPassword,
		Every: f.Every, Duration: f.Duration, Timeout: f.Timeout, Asked: f.LatestRate, Hook: f.Hook, Name: fmt.Sprintf("load-%08x", rand.Uint32())}
	if c.Duration == 0 {
		c.Duration = hold
	}
	if f.FindLimit || f.Compare != "" || f.Rate > 0 {
		return c, errors.New("--devices is a mode of its own: without --rate, --find-limit and --compare")
	}
	return c, c.Validate()
}

// sendFixes is the load of devices: what they sent and what /latest took, on out and in
// devices.json.
func (t *test) sendFixes(ctx context.Context) error {
	c, err := t.flags.fleet()
	if err != nil {
		return err
	}
	c.Target, c.Header = t.targets[0].URL, t.targets[0].Header
	d := t.display
	d.print("%d devices by HTTP and %d by MQTT, a fix every %v, on %s", c.HTTP, c.MQTT, c.Every, c.Target.Redacted())
	c.Observe = func(p fleet.Progress) {
		d.print("%6s  %9s fixes  %9s acknowledged  %5s failed  sent p99 %-8s /latest p99 %-8s", clock(p.At), report.Count(p.Made), report.Count(p.Acked),
			report.Count(p.Failures), report.Millis(p.Sent.P99), report.Millis(p.Latest.P99))
	}
	r, err := fleet.Run(ctx, c)
	if err != nil {
		return err
	}
	all := append(append(r.Sent, r.Latest...), r.Late)
	if r.Crossings != nil {
		all = append(all, r.Crossings.Took)
	}
	for _, times := range all {
		if times.Name == "" {
			times.Name = "late by itself: this tool"
		}
		d.print("%-26s %9s  p50 %-8s p95 %-8s p99 %-8s max %s", times.Name, report.Count(times.Count), report.Millis(times.P50), report.Millis(times.P95),
			report.Millis(times.P99), report.Millis(times.Max))
	}
	for _, text := range r.Commonest() {
		d.print("%9s × %s", report.Count(r.Reasons[text]), text)
	}
	if r.Crossings != nil {
		for _, text := range r.Crossings.Examples {
			d.print("%s", text)
		}
	}
	for _, text := range r.Verified.Examples {
		d.print("%s", text)
	}
	t.checkFixes(r)
	path, err := writeJSON(t.flags.Out, "devices.json", r)
	if err != nil {
		return err
	}
	for _, check := range t.doc.Checks {
		d.print("%s %s", map[bool]string{true: "ok    ", false: "FAILED"}[check.OK], check.Text)
	}
	d.print("The figures are in %s", path)
	if !t.doc.Passed() {
		return errCrossed
	}
	return nil
}

func (t *test) checkFixes(r *fleet.Result) {
	v := r.Verified
	t.check(r.Acked > 0 && v.OK(), "of %s acknowledged fixes %s are in their devices' tracks; %d missing, %d wrong, %d not answered for, %d devices behind in /latest",
		report.Count(v.Acknowledged), report.Count(v.Found), v.Missing, v.Wrong, v.Unknown, v.Behind)
	t.check(r.Dropped == 0, "%s of %s fixes were not sent by devices that could keep no more", report.Count(r.Dropped), report.Count(r.Made))
	t.check(t.flags.Failures.allows(r.Failures, r.Made), "%s requests and messages failed; allowed are %s", report.Count(r.Failures), t.flags.Failures.text)
	if len(r.Latest) > 0 {
		bound := float64(t.flags.LatestP99) / float64(time.Millisecond)
		t.check(r.LatestP99() <= bound, "p99 of /latest is %s; allowed are %s", report.Millis(r.LatestP99()), report.Millis(bound))
	}
	if c := r.Crossings; c != nil {
		bound := float64(t.flags.HookP99) / float64(time.Millisecond)
		t.check(c.OK(), "of %s acknowledged fixes that crossed the fence the hook was told %s; %d of them under two ids, %d that were not acknowledged, %d messages repeated",
			report.Count(c.Acknowledged), report.Count(c.Arrived), c.Twice, c.Unexpected, c.Repeated)
		t.check(c.Took.P99 <= bound, "p99 from an acknowledged fix to the hook is %s; allowed are %s", report.Millis(c.Took.P99), report.Millis(bound))
	}
}

// writeJSON writes a file into a folder, which is made where it is missing.
func writeJSON(folder, name string, what any) (path string, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return "", err
	}
	path = filepath.Join(folder, name)
	return path, os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // a report, for all to read
}
