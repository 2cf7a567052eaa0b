// Command othersystem type-checks packages for another operating system, from their
// sources: a release is built for macOS too, and to compile all of it at each check
// would take minutes.
//
// usage: GOOS=darwin go run ./othersystem FOLDER PACKAGE…
package main

import (
	"fmt"
	"os"

	"golang.org/x/tools/go/packages"
)

func main() {
	wrong, err := check(os.Args[1], os.Args[2:])
	for _, w := range wrong {
		fmt.Println(w)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "othersystem:", err)
		os.Exit(2)
	case len(wrong) > 0:
		os.Exit(1)
	}
}

// check returns what is wrong with the packages in a module's folder.
func check(folder string, patterns []string) (wrong []packages.Error, err error) {
	mode := packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
		packages.NeedDeps | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedTypesSizes
	all, err := packages.Load(&packages.Config{Mode: mode, Dir: folder}, patterns...)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no package in %s", folder)
	}
	for _, p := range all {
		wrong = append(wrong, p.Errors...)
	}
	return wrong, nil
}
