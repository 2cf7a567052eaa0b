//go:build e2edeploy

package deploy

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
)

// release builds this machine's part of a release.
func release(t *testing.T) (dist, sums string) {
	dist = filepath.Join(t.TempDir(), "dist")
	if _, err := commandIn(root, commandBound, []string{"TARGETS=linux/" + runtime.GOARCH, "DIST=" + dist}, "sh", "internal/tools/release.sh", "v0.0.1", "none"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	return dist, string(text)
}

// Two builds of one commit give the same bytes. The package is installed, upgraded on its
// own, removed and purged, and no point is lost by any of it.
func TestRelease(t *testing.T) {
	dist, sums := release(t)
	if _, again := release(t); sums != again || !strings.Contains(sums, ".deb") {
		t.Errorf("two builds differ:\n%s\n%s", sums, again)
	}
	deb := "cairn_0.0.1_" + runtime.GOARCH + ".deb"
	t.Run("image", func(t *testing.T) {
		docker(t, "load", "--input", filepath.Join(dist, "cairn_0.0.1_linux_"+runtime.GOARCH+"_image.tar"))
		if out := docker(t, "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", "cairn:0.0.1", "version"); !strings.Contains(out, "v0.0.1") {
			t.Error(out)
		}
	})
	t.Run("package", func(t *testing.T) { tryPackage(t, dist, deb) })
}

func tryPackage(t *testing.T, dist, deb string) {
	// An image that has PostGIS and, unlike the package's user, no database of its own.
	id := strings.TrimSpace(docker(t, "run", "--detach", "--volume", dist+":/dist:ro", "--entrypoint", "sleep", "postgis/postgis:17-3.5", "infinity"))
	t.Cleanup(func() { docker(t, "rm", "--force", id) })
	in := func(script string) string {
		return docker(t, "exec", "--user", "root", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", id, "sh", "-ec", script)
	}

	in("dpkg --install /dist/" + deb)
	for _, want := range []string{"/usr/bin/cairn", "/lib/systemd/system/cairn.service", "/etc/default/cairn"} {
		in("test -f " + want)
	}
	// What cairn.service runs, without a service manager.
	serve := `su -s /bin/sh -c 'CAIRN_DATA=/var/lib/cairn /usr/bin/cairn serve >/tmp/log 2>&1 & echo $! >/tmp/pid' cairn`
	in(serve)
	answers(t, id)
	in(`su -s /bin/sh -c "echo 2.5,48.5,kept | sed '1i lon,lat,name' | cairn load --format csv -" cairn`)
	// Nobody in the container reaps what has ended, so its id stays; its command line goes.
	stop := `kill "$(cat /tmp/pid)"; while grep -q cairn "/proc/$(cat /tmp/pid)/cmdline" 2>/dev/null; do sleep 0.1; done`
	in(stop)
	for _, step := range []string{"--remove", "--purge"} {
		if out := in("dpkg " + step + " cairn"); step == "--purge" && !strings.Contains(out, "/var/lib/cairn") {
			t.Errorf("a purge does not say where the points are: %s", out)
		}
		in("test -d /var/lib/cairn/queue -o -n \"$(ls /var/lib/cairn)\"; ! test -e /usr/bin/cairn")
		in("dpkg --install /dist/" + deb)
	}
	in(serve)
	answers(t, id)
	kept := docker(t, "exec", id, "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /points?name=kept HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3; cat <&3`)
	if !strings.Contains(kept, `"kept"`) {
		t.Errorf("the point is lost: %s", kept)
	}
	in(stop)
	if log := in("cat /tmp/log"); strings.Contains(log, "panic") {
		t.Error(log)
	}
}

// answers waits until Cairn in the container is ready.
func answers(t *testing.T, id string) {
	testkit.Eventually(t, 2*time.Minute, "cairn of the package is ready", func() bool {
		_, err := command("docker", "exec", id, "cairn", "healthcheck")
		return err == nil
	})
}

// The unit is one that systemd takes, and keeps what it runs to itself.
func TestUnit(t *testing.T) {
	unit := filepath.Join(t.TempDir(), "cairn.service")
	text, err := os.ReadFile(root + "/deploy/systemd/cairn.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program and its user are not on this machine.
	for old, now := range map[string]string{"/usr/bin/cairn": "/bin/true", "User=cairn": "User=daemon", "Group=cairn": "Group=daemon"} {
		if !strings.Contains(string(text), old) {
			t.Fatalf("the unit has no %s", old)
		}
		text = []byte(strings.ReplaceAll(string(text), old, now))
	}
	if err := os.WriteFile(unit, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := command("systemd-analyze", "verify", "--man=no", unit); err != nil || strings.Contains(out, "cairn.service:") {
		t.Errorf("%v\n%s", err, out)
	}
	// Of 100 tenths of exposure: what systemd calls OK ends at 45.
	if out, err := command("systemd-analyze", "security", "--offline=true", "--threshold=30", unit); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
