// Command reference writes what the engine says of its own paths: docs/reference.md,
// and the OpenAPI document of a release. See make reference.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend"
)

func main() {
	update := flag.String("update", "", "markdown `file` to write the page to")
	openAPI := flag.String("openapi", "", "`file` to write the OpenAPI document to")
	flag.Parse()
	if err := run(*update, *openAPI); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(page, openAPI string) error {
	e, err := newEngine()
	if err != nil {
		return err
	}
	if page != "" {
		text, err := e.page()
		if err != nil {
			return err
		}
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if openAPI == "" {
		return nil
	}
	text, err := json.MarshalIndent(e.document, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(openAPI, append(text, '\n'), 0o644)
}

// engine is a mount that only says what it takes.
type engine struct {
	logical.Backend
	document *framework.OASDocument
}

func newEngine() (*engine, error) {
	system := &logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}}
	b, err := backend.Factory(context.Background(), &logical.BackendConfig{System: system})
	if err != nil {
		return nil, err
	}
	e := &engine{Backend: b}
	root, err := e.help("", map[string]any{"requestResponsePrefix": "smvm"})
	if err != nil {
		return nil, err
	}
	document, ok := root["openapi"].(*framework.OASDocument)
	if !ok || len(document.Paths) == 0 {
		return nil, errors.New("the engine answers no OpenAPI document")
	}
	document.Info.Title = "vault-plugin-secrets-smvm"
	document.Info.Description = "Paths of the secrets engine, below /v1/ and the path where it is mounted."
	document.Info.Version = b.(logical.PluginVersioner).PluginVersion().Version
	e.document = document
	return e, nil
}

// help is what the engine answers to vault path-help.
func (e *engine) help(path string, data map[string]any) (map[string]any, error) {
	resp, err := e.HandleRequest(context.Background(), &logical.Request{Operation: logical.HelpOperation, Path: path, Data: data})
	if err != nil {
		return nil, fmt.Errorf("ask for help with %q: %w", path, err)
	}
	return resp.Data, nil
}

// description is the long help of a path, which OpenAPI does not have.
func (e *engine) description(path string) (string, error) {
	data, err := e.help(strings.NewReplacer("{", "", "}", "").Replace(path), nil)
	if err != nil {
		return "", err
	}
	text, _ := data["help"].(string)
	_, description, found := strings.Cut(text, "## DESCRIPTION\n")
	if !found {
		return "", fmt.Errorf("the help with %q has no description", path)
	}
	return strings.Join(strings.Fields(description), " "), nil
}
