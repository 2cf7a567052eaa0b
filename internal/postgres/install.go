package postgres

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// debianBins is where Debian and Ubuntu put the server's programs, which they
// keep out of PATH.
const debianBins = "/usr/lib/postgresql/*/bin"

const howToInstall = "install it (sudo apt-get install postgresql-postgis), or set DATABASE_URL to a PostGIS database"

// An installation is one set of the server's programs.
type installation struct {
	bin   string // folder
	major int    // PostgreSQL's version, such as 15
}

func (i installation) program(name string) string { return filepath.Join(i.bin, name) }

// Installed returns nil where this machine has what a private cluster needs:
// PostgreSQL's server programs and PostGIS. Else its error says what is missing
// and how to fix that.
func Installed() error {
	_, err := newest()
	return err
}

// newest is the installation to make a new cluster with: the first, in the
// order of [installations], that has PostGIS.
func newest() (installation, error) {
	all := installations()
	for _, i := range all {
		if i.hasPostGIS() {
			return i, nil
		}
	}
	if len(all) > 0 {
		return installation{}, fmt.Errorf("PostgreSQL %d is here (%s) but PostGIS for it is not: %s", all[0].major, all[0].bin, howToInstall)
	}
	return installation{}, errors.New("PostgreSQL's server programs are not here: " + howToInstall)
}

// ofMajor is the installation for an existing cluster in dir.
func ofMajor(major int, dir string) (installation, error) {
	var majors []string
	for _, i := range installations() {
		if i.major == major {
			return i, nil
		}
		majors = append(majors, strconv.Itoa(i.major))
	}
	here := "no PostgreSQL is"
	if len(majors) > 0 {
		here = "only PostgreSQL " + strings.Join(majors, ", ") + " is"
	}
	return installation{}, fmt.Errorf("the cluster in %s was made by PostgreSQL %d, but %s installed here: "+
		"install that version with its PostGIS (on Debian: postgresql-%d-postgis-3), or choose another folder with --data", dir, major, here, major)
}

// installations looks in PATH, then where Debian puts servers, newest first,
// then where pg_config says.
func installations() []installation {
	var bins []string
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			bins = append(bins, filepath.Dir(path))
		}
	}
	debian, _ := filepath.Glob(debianBins) // the pattern is a constant
	slices.SortFunc(debian, func(a, b string) int { return folderMajor(b) - folderMajor(a) })
	bins = append(bins, debian...)
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		bins = append(bins, strings.TrimSpace(string(out)))
	}
	var found []installation
	for _, bin := range bins {
		known := slices.ContainsFunc(found, func(i installation) bool { return i.bin == bin })
		if major := serverMajor(bin); major > 0 && !known {
			found = append(found, installation{bin, major})
		}
	}
	return found
}

// folderMajor is the version in a path such as /usr/lib/postgresql/15/bin.
func folderMajor(bin string) int {
	major, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	if err != nil {
		return 0
	}
	return major
}

// serverMajor is the version of the server in a folder; 0 if what runs one is
// not all there.
func serverMajor(bin string) int {
	for _, name := range []string{"initdb", "pg_ctl"} {
		if _, err := exec.LookPath(filepath.Join(bin, name)); err != nil {
			return 0
		}
	}
	out, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	// postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)
	_, version, _ := strings.Cut(string(out), "(PostgreSQL) ")
	digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		return 0
	}
	major, _ := strconv.Atoi(version[:digits]) // 0 if there are none
	return major
}

// lz4Since is the first version whose log can be compressed with lz4.
const lz4Since = 15

// walCompression is lz4 where the server was built with it.
func (i installation) walCompression() string {
	if i.major < lz4Since {
		return "on"
	}
	program, err := elf.Open(i.program("postgres"))
	if err != nil {
		return "on"
	}
	defer program.Close()
	libraries, err := program.ImportedLibraries()
	if err != nil || !slices.ContainsFunc(libraries, func(name string) bool { return strings.HasPrefix(name, "liblz4.") }) {
		return "on"
	}
	return "lz4"
}

func (i installation) hasPostGIS() bool {
	shares := []string{
		fmt.Sprintf("/usr/share/postgresql/%d", i.major),
		filepath.Join(filepath.Dir(i.bin), "share"),
		filepath.Join(filepath.Dir(i.bin), "share", "postgresql"),
	}
	if out, err := exec.Command(i.program("pg_config"), "--sharedir").Output(); err == nil {
		shares = []string{strings.TrimSpace(string(out))}
	}
	for _, share := range shares {
		if _, err := os.Stat(filepath.Join(share, "extension", "postgis.control")); err == nil {
			return true
		}
	}
	return false
}
