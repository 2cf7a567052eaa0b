package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

const repository = ".."

// documents are all pages for people in the repository, by their paths.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*.md", "loadtest/*.md", "examples/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(repository, path)
			pages[name] = string(text)
		}
	}
	if len(pages) < 8 {
		t.Fatalf("only %d documents", len(pages))
	}
	return pages
}

var (
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ (.+)$`)
	unsaid   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	fences   = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")
)

// anchors are the fragments that lead to a page's headings.
func anchors(page string) (found []string) {
	for _, h := range headings.FindAllStringSubmatch(page, -1) {
		found = append(found, strings.ReplaceAll(unsaid.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	return found
}

// Every link inside the repository leads to a file, and to a heading of it.
func TestDocsLinks(t *testing.T) {
	pages := documents(t)
	for name, page := range pages {
		for _, l := range links.FindAllStringSubmatch(page, -1) {
			if strings.Contains(l[1], "://") || strings.HasPrefix(l[1], "mailto:") {
				continue
			}
			path, fragment, _ := strings.Cut(l[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, l[1])
			} else if fragment != "" && !slices.Contains(anchors(pages[target]), fragment) {
				t.Errorf("%s links to %s: %s has no such heading", name, l[1], target)
			}
		}
	}
}

// What the documents say of flags, variables and targets is there, and all flags are
// said.
func TestDocsSettings(t *testing.T) {
	help := ""
	for _, command := range []string{"serve", "ingest", "projector", "query", "migrate", "load", "status", "keys add", "keys ls", "keys rm", "parked ls", "parked retry", "rebuild", "salvage", "healthcheck", "cluster status", "cluster adopt", "cluster database"} {
		r, code := run(t, append(strings.Fields(command), "--help")...)
		if code != 0 {
			t.Fatalf("cairn %s --help ends with %d", command, code)
		}
		help += strings.Join(strings.Fields(r.Stdout.String()), " ")
	}
	settings := "" // of all that is about running it
	for name, page := range documents(t) {
		if strings.HasPrefix(name, "docs/") {
			settings += page
		}
	}
	said := regexp.MustCompile("`(--[a-z-]+|CAIRN_[A-Z_]+)`").FindAllStringSubmatch(settings, -1)
	if len(said) < 20 {
		t.Fatalf("docs/ has %d settings", len(said))
	}
	for _, s := range said {
		if !strings.Contains(help, s[1]) {
			t.Errorf("docs/ has %s, and no command's help does", s[1])
		}
	}
	serve, _ := run(t, "serve", "--help")
	for _, f := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(serve.Stdout.String(), -1) {
		if !strings.Contains(settings, "`"+f+"`") && f != "--help" {
			t.Errorf("docs/ says nothing of %s", f)
		}
	}
	makefile, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range documents(t) {
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z][a-z0-9/-]*)").FindAllStringSubmatch(page, -1) {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s has make %s, and the Makefile does not", name, m[1])
			}
		}
	}
}

// commandsOf are the lines of a page's blocks that this test can run, each whole.
func commandsOf(page string) (commands []string) {
	for _, block := range fences.FindAllStringSubmatch(page, -1) {
		block := strings.ReplaceAll(block[1], "\\\n", " ")
		for line := range strings.Lines(block) {
			if regexp.MustCompile(`^(curl|bin/cairn|cairn|nats|ogrinfo|ogr2ogr) `).MatchString(line) {
				commands = append(commands, strings.TrimSpace(line))
			}
		}
	}
	return commands
}

// Every command of the documents that speaks to a server does what it says, in the
// order of the page, on a server of the page's own.
func TestDocsCommands(t *testing.T) {
	for _, name := range []string{"README.md", "docs/getting-started.md", "docs/sending.md", "docs/reading.md", "docs/fences.md", "docs/operating.md"} {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".md"), func(t *testing.T) {
			commands := commandsOf(documents(t)[name])
			if len(commands) == 0 {
				t.Fatal("no command found")
			}
			runDocument(t, commands)
		})
	}
}

func runDocument(t *testing.T, commands []string) {
	data := testrig.DataFolder(t)
	s := serve(t, data, "--database-url", testkit.Postgres(t))
	defer s.Leave()
	folder := documentFiles(t)
	sh := newShell(t)
	sh.env = append(sh.env, "CAIRN_URL="+s.Base, "CAIRN_DATA="+data)
	sh.env = append(sh.env, "NATS_URL="+regexp.MustCompile(`nats://[0-9.:]+`).FindString(s.Stdout.String()))
	// No page asks a server that has nothing.
	testrig.MustPost(t, s.Base+"/point", paris)
	location := "" // of the page's last POST
	for _, command := range commands {
		line := strings.NewReplacer("http://localhost:8080", s.Base, "localhost:8080", s.Base, "bin/cairn", "cairn").Replace(command)
		if location != "" {
			line = regexp.MustCompile(`/points/[0-9a-f-]{36}\?min_position=\d+`).ReplaceAllLiteralString(line, location)
		}
		want := 0
		if strings.Contains(line, "curl -N") { // a stream has no end: curl's code for a time-out
			line, want = strings.Replace(line, "curl -N", "curl -N --max-time 1", 1), 28
		}
		out, code := sh.try(fmt.Sprintf("cd '%s' && %s", folder, line))
		if code != want {
			t.Errorf("%s\nends with code %d:\n%s", command, code, out)
		}
		if found := regexp.MustCompile(`(?m)^Location: (\S+)`).FindStringSubmatch(out); found != nil {
			location = found[1]
		}
	}
}

// documentFiles has the files that the documents' commands read.
func documentFiles(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	const geojson = `{"type":"FeatureCollection","features":[{"type":"Feature","geometry":{"type":"Point","coordinates":[2.5,48.5]},"properties":{"name":"Lieusaint","mag":5.5}}]}`
	for name, text := range map[string]string{
		"cities.csv":           "latitude,longitude,name\n48.85,2.35,Paris\n",
		"earthquakes.geojson":  geojson,
		"tracks/monday.csv":    "latitude,longitude,name\n48.85,2.36,A\n",
		"places.geojson":       geojson,
		"points.geojson":       geojson,
		"observations.geojson": geojson,
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, code := newShell(t).try("cd '" + folder + "' && ogr2ogr -f GPKG places.gpkg places.geojson"); code != 0 {
		t.Fatal(out)
	}
	return folder
}
