// Image writes the container image of a release without a container engine, so that
// two builds of the same commit give the same bytes: a tar that `docker load` and
// `podman load` take. It has what deploy/Dockerfile's image has.
//
// usage: image -binary FILE -arch amd64 -version V -commit C -built UNIX -out FILE.tar
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// user is a number, so that Kubernetes can tell that it is not root.
const user = 65532

type settings struct {
	binary, arch, version, commit, out string
	built                              int64
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "", "the static binary")
	flag.StringVar(&s.arch, "arch", "amd64", "its architecture")
	flag.StringVar(&s.version, "version", "", "of the release")
	flag.StringVar(&s.commit, "commit", "", "of the release")
	flag.Int64Var(&s.built, "built", 0, "the image's time, seconds since 1970")
	flag.StringVar(&s.out, "out", "", "where to write the image")
	flag.Parse()
	if err := write(s); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func write(s settings) error {
	layer, err := layerOf(s)
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	built := time.Unix(s.built, 0).UTC()
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	image, err = mutate.ConfigFile(image, configOf(config.DeepCopy(), s, built))
	if err != nil {
		return err
	}
	tag, err := name.NewTag("cairn:" + s.version)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(s.out, tag, image)
}

func configOf(config *v1.ConfigFile, s settings, built time.Time) *v1.ConfigFile {
	config.Architecture, config.OS, config.Created = s.arch, "linux", v1.Time{Time: built}
	for i := range config.History {
		config.History[i].Created = v1.Time{Time: built}
	}
	config.Config = v1.Config{
		User:         fmt.Sprint(user),
		Env:          []string{"CAIRN_DATA=/data", "CAIRN_LISTEN=:8080", "CAIRN_NATS_LISTEN=:4222"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Entrypoint:   []string{"/cairn"},
		Cmd:          []string{"serve"},
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/cairn", "healthcheck"},
			Interval: 5 * time.Second, Timeout: 3 * time.Second, StartPeriod: time.Minute, Retries: 3},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "Cairn",
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.version":  s.version,
			"org.opencontainers.image.revision": s.commit,
		},
	}
	return config
}

// layerOf has the binary and the data folder, with its owner: a volume that is mounted
// there first gets it.
func layerOf(s settings) (v1.Layer, error) {
	binary, err := os.ReadFile(s.binary)
	if err != nil {
		return nil, err
	}
	built := time.Unix(s.built, 0)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "cairn", Mode: 0o755, Size: int64(len(binary)), ModTime: built},
		{Typeflag: tar.TypeDir, Name: "data/", Mode: 0o755, Uid: user, Gid: user, ModTime: built},
	} {
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(binary); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
}
