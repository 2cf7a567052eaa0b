package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// What is in examples/ does what it says.
func TestExamples(t *testing.T) {
	s := serve(t, testrig.DataFolder(t), "--database-url", testkit.Postgres(t))
	out, err := exec.CommandContext(t.Context(), "../examples/curl.sh", s.Base).CombinedOutput()
	for _, want := range []string{`"outcome":"created"`, `"outcome":"replaced"`, `"visitors": 4`, `"numberMatched":1`, "2.3522,48.8566", "\n204\n"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("curl.sh: %v, want …%s… in\n%s", err, want, out)
		}
	}
	rows := "longitude,latitude,name\n" + strings.Repeat("2,48,there\n", 25) + "7,3,elsewhere\n"
	if a := write(t, "POST", s.Base+"/point", "text/csv", rows, "Prefer", "wait=20"); a.Status >= 300 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	out, err = exec.CommandContext(t.Context(), "../examples/points.py", s.Base, "bbox=0,40,9,51", "limit=10").CombinedOutput()
	if err != nil || strings.Count(string(out), " there\n") != 25 || !strings.Contains(string(out), "25 points\n") {
		t.Fatalf("points.py: %v\n%s", err, out)
	}
}
