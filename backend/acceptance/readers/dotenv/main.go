// Command dotenv reads a file of settings as docker run --env-file or as Compose
// does, and prints what it got as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/docker/cli/pkg/kvfile"
)

func main() {
	if err := read(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(reader, file string) error {
	var settings map[string]string
	var err error
	if reader == "docker" {
		settings, err = docker(file)
	} else {
		settings, err = dotenv.Read(file)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(settings)
}

func docker(file string) (map[string]string, error) {
	lines, err := kvfile.Parse(file, nil)
	settings := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		settings[name] = value
	}
	return settings, err
}
