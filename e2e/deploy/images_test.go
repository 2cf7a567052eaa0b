//go:build e2edeploy

package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// The images that the deployment uses, and what stands in for them. The stand-ins
// have these names, so what is tested is the files as they are.
const (
	baseImage  = "debian:trixie-slim"
	buildImage = "golang:1.26"
	bareImage  = "golang:bare" // its stand-in, before anything is built with it
	// pageImage fetches the map page's libraries from npm. Its stand-in has no npm:
	// "make e2e-deploy" has put them beside the sources, where the build finds them.
	pageImage = "node:24-slim"
	// builtImage is what deploy/Dockerfile gives.
	builtImage = "cairn:e2e"
	// madeFrom is the label by which a stand-in is known, and what it was made from.
	madeFrom = "cairn.standin"
)

var standIns = map[string]string{
	"postgis/postgis:17-3.5": "postgis.Dockerfile",
	"haproxy:3.0":            "haproxy.Dockerfile",
	"nginx:1.28":             "nginx.Dockerfile",
}

// prepareImages takes care of the images and builds Cairn's.
func prepareImages() error {
	for image, file := range standIns {
		if err := provide(image, fileHash(filepath.Join("standin", file), "standin/postgis.sh"), func(label string) error {
			if err := provideBase(); err != nil {
				return err
			}
			_, err := commandIn("standin", commandBound, builder(), "docker", "build", "--quiet", "--network", "host", "--label", label, "--tag", image, "--file", file, ".")
			return err
		}); err != nil {
			return err
		}
	}
	if err := provide(buildImage, fileHash(root+"/go.sum", root+"/go.mod")+runtime.Version(), standInGo); err != nil {
		return err
	}
	if err := provide(pageImage, "1", func(label string) error {
		folder, err := baseFolder()
		if err != nil {
			return err
		}
		return importTar(pageImage, []string{label}, "tar -C "+folder+" -c .")
	}); err != nil {
		return err
	}
	_, err := commandIn(root, commandBound, builder(), "docker", "build", "--quiet", "--file", "deploy/Dockerfile",
		"--build-arg", "VERSION=e2e", "--tag", builtImage, ".")
	return err
}

// provide takes care of an image: one that is there, the registry's, or a stand-in made
// from what hash tells of.
func provide(image, hash string, make func(label string) error) error {
	label, err := command("docker", "image", "inspect", "--format", `{{index .Config.Labels "`+madeFrom+`"}}`, image)
	if label = strings.TrimSpace(label); err == nil && (label == "" || label == hash || label == "<no value>") {
		return nil
	}
	if err != nil { // nor is it a stand-in of another time
		if _, err := commandIn("", pullBound, nil, "docker", "pull", "--quiet", image); err == nil {
			return nil
		}
	}
	fmt.Println("no registry is in reach; making a stand-in for", image)
	if err := make(madeFrom + "=" + hash); err != nil {
		return fmt.Errorf("a stand-in for %s: %w", image, err)
	}
	return nil
}

// provideBase makes the base of the stand-ins from the distribution's packages.
func provideBase() error {
	return provide(baseImage, "1", func(label string) error {
		folder, err := baseFolder()
		if err != nil {
			return err
		}
		return importTar(baseImage, []string{label}, "tar -C "+folder+" -c .")
	})
}

func baseFolder() (string, error) {
	dir, err := cache()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(dir, "base")
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	if err := os.RemoveAll(folder + ".new"); err != nil {
		return "", err
	}
	if _, err := command("sh", "-c", "PATH=$PATH:/usr/sbin:/sbin debootstrap --variant=minbase trixie "+folder+".new"); err != nil {
		return "", err
	}
	return folder, os.Rename(folder+".new", folder)
}

// importTar makes an image of what a shell command writes as tar.
func importTar(image string, labels []string, tar string, changes ...string) error {
	args := []string{"docker", "import"}
	for _, l := range labels {
		changes = append(changes, "LABEL "+l)
	}
	for _, c := range changes {
		args = append(args, "--change", "'"+c+"'")
	}
	_, err := command("sh", "-c", tar+" | "+strings.Join(append(args, "-", image), " "))
	return err
}

// standInGo is this machine's Go with the modules that Cairn needs: the build has
// no way to a registry of modules either.
func standInGo(label string) error {
	base, err := baseFolder()
	if err != nil {
		return err
	}
	settings, err := commandIn(root, commandBound, nil, "go", "env", "GOROOT", "GOMODCACHE", "GOPROXY")
	if err != nil {
		return err
	}
	goEnv := strings.Fields(settings)
	dir, err := cache()
	if err != nil {
		return err
	}
	modules := filepath.Join(dir, "modules") // of these alone
	_, err = commandIn(root, commandBound, []string{"GOWORK=off", "GOMODCACHE=" + filepath.Join(modules, "go/pkg/mod"), "GOFLAGS=-modcacherw",
		"GOPROXY=file://" + filepath.Join(goEnv[1], "cache/download") + "," + goEnv[2]}, "go", "mod", "download")
	if err != nil {
		return err
	}
	certificates := "-C / ./etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err != nil {
		return fmt.Errorf("the image needs certificates: %w", err)
	}
	name := filepath.Base(goEnv[0])
	err = importTar(bareImage, nil,
		fmt.Sprintf(`tar -c -C %s . -C %s ./go -C %s --transform 's,^%s\(/\|$\),./usr/local/go\1,' %s %s`, base, modules, filepath.Dir(goEnv[0]), name, name, certificates),
		"ENV PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin", "ENV GOPATH=/go", "ENV GOPROXY=off", "ENV GOTOOLCHAIN=local", "ENV GOFLAGS=-buildvcs=false")
	if err != nil {
		return err
	}
	_, err = commandIn(root, commandBound, builder(), "docker", "build", "--quiet", "--label", label, "--tag", buildImage,
		"--file", "e2e/deploy/standin/golang.Dockerfile", ".")
	return err
}

func fileHash(files ...string) string {
	sum := sha256.New()
	for _, f := range files {
		text, _ := os.ReadFile(f) // what is missing fails later, and says so
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}
