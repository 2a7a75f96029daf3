// Command image writes the container image of the plugin as an archive of an OCI
// layout: one layer with the static binary, which is the entry point, and nothing
// else. The same binary and version give the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// settings are the command line.
type settings struct {
	binary, arch, version, out string
	epoch                      int64
}

// made is the time that everything in the image has.
func (s settings) made() time.Time { return time.Unix(s.epoch, 0).UTC() }

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "", "`file` of the plugin")
	flag.StringVar(&s.arch, "arch", "amd64", "architecture of the binary, as Go names it")
	flag.StringVar(&s.version, "version", "", "version, which is the name of the image in the layout")
	flag.Int64Var(&s.epoch, "epoch", 0, "time that everything in the image has, in seconds since 1970")
	flag.StringVar(&s.out, "out", "", "`file` to write")
	flag.Parse()
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	image, err := build(s)
	if err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write layout: %w", err)
	}
	name := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": s.version})
	platform := layout.WithPlatform(v1.Platform{OS: "linux", Architecture: s.arch})
	if err := path.AppendImage(image, name, platform); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	return archive(s, dir)
}

// build makes the image. It runs as nobody, because the plugin needs no rights.
func build(s settings) (v1.Image, error) {
	binary, err := os.ReadFile(s.binary)
	if err != nil {
		return nil, err
	}
	const at = "vault-plugin-secrets-smvm"
	var content bytes.Buffer
	files := tar.NewWriter(&content)
	if err := add(files, s.made(), at, 0o755, binary); err != nil {
		return nil, err
	}
	if err := files.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, configure(config, s, "/"+at))
}

// configure is the configuration of the image.
func configure(config *v1.ConfigFile, s settings, entrypoint string) *v1.ConfigFile {
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", s.arch, v1.Time{Time: s.made()}
	config.Config = v1.Config{
		Entrypoint: []string{entrypoint}, User: "65534:65534",
		Labels: map[string]string{"org.opencontainers.image.version": s.version, "org.opencontainers.image.licenses": "MPL-2.0"},
	}
	for i := range config.History {
		config.History[i].Created = v1.Time{Time: s.made()}
	}
	return config
}

// archive writes the files of a directory to the archive, in the order of their names.
func archive(s settings, dir string) error {
	out, err := os.Create(s.out)
	if err != nil {
		return err
	}
	defer out.Close()
	files := tar.NewWriter(out)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return add(files, s.made(), name, 0o644, content)
	})
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if err := files.Close(); err != nil {
		return err
	}
	return out.Close()
}

// add writes one file to an archive.
func add(files *tar.Writer, made time.Time, name string, mode int64, content []byte) error {
	if err := files.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), ModTime: made, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err := files.Write(content)
	return err
}
