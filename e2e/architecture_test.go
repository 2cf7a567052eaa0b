package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// roles are the packages that may not know of each other: what they share goes
// through bus, schema and internal/web.
var roles = []string{"cairn/ingest", "cairn/projector", "cairn/query"}

// Writing and reading are apart, as the compiler sees it.
func TestRolesAreApart(t *testing.T) {
	forbidden := map[string][]string{
		"cairn/ingest":    {"github.com/jackc/pgx/v5", "github.com/jackc/tern/v2", "cairn/schema", "cairn/internal/postgres"},
		"cairn/query":     {"cairn/internal/postgres"},
		"cairn/bus":       {"github.com/jackc/pgx/v5", "github.com/gofiber/fiber/v2", "cairn/internal/web"},
		"cairn/schema":    {"github.com/nats-io/nats.go"},
		"cairn/projector": {"cairn/internal/postgres"},
	}
	for _, role := range roles {
		for _, other := range roles {
			if other != role {
				forbidden[role] = append(forbidden[role], other)
			}
		}
		// A role speaks to a queue that need not be in its process.
		forbidden[role] = append(forbidden[role], "cairn/bus/server", "github.com/nats-io/nats-server/v2")
		forbidden["cairn/bus"] = append(forbidden["cairn/bus"], role, "cairn/bus/server", "github.com/nats-io/nats-server/v2")
		forbidden["cairn/event"] = append(forbidden["cairn/event"], role, "cairn/bus", "github.com/nats-io/nats.go")
		forbidden["cairn/schema"] = append(forbidden["cairn/schema"], role)
		forbidden["cairn/internal/web"] = append(forbidden["cairn/internal/web"], role, "cairn/bus", "cairn/schema")
	}
	for pkg, not := range forbidden {
		all := dependencies(t, pkg)
		for _, path := range not {
			if i := slices.IndexFunc(all, func(d string) bool { return d == path || strings.HasPrefix(d, path+"/") }); i >= 0 {
				t.Errorf("%s depends on %s", pkg, all[i])
			}
		}
	}
}

// dependencies are all packages that the package is built of, without tests.
func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}", pkg)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v", pkg, err)
	}
	all := strings.Fields(string(out))
	if !slices.Contains(all, pkg) {
		t.Fatalf("go list -deps %s lists %d packages without it", pkg, len(all))
	}
	return all
}

// The query role publishes nothing and changes no stream.
func TestQueryPublishesNothing(t *testing.T) {
	used := selectors(t, "../query")
	if !used["event.EndOf"] {
		t.Error("query does not use event.EndOf: this test looks for the wrong names")
	}
	for _, name := range []string{"bus.NewCollector", "bus.NewBatch", "bus.Announce", "bus.CreateStream", "bus.ResumeAfter", "server.Start", "jetstream.New"} {
		if used[name] {
			t.Errorf("query uses %s", name)
		}
	}
	for name := range used {
		if strings.HasSuffix(name, ".Publish") || strings.HasSuffix(name, ".PublishMsg") {
			t.Errorf("query uses %s", name)
		}
	}
}

// selectors are the names of the form x.Y that the package's code uses; its
// tests may do what they like.
func selectors(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s (%v)", dir, err)
	}
	used := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok {
					used[x.Name+"."+s.Sel.Name] = true
				}
			}
			return true
		})
	}
	return used
}
