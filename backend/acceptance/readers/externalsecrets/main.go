// Command externalsecrets renders the template of an ExternalSecret as the operator
// does: it reads the templates and the values by name, as JSON, and prints what
// becomes of them.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	esapi "github.com/external-secrets/external-secrets/apis/externalsecrets/v1"
	template "github.com/external-secrets/external-secrets/pkg/template/v2"
	corev1 "k8s.io/api/core/v1"
)

func main() {
	if err := render(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func render() error {
	var given struct{ Templates, Values map[string]string }
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		return err
	}
	var secret corev1.Secret
	if err := template.Execute(octets(given.Templates), octets(given.Values), esapi.TemplateScopeValues, esapi.TemplateTargetData, &secret); err != nil {
		return err
	}
	rendered := map[string]string{}
	for name, value := range secret.Data {
		rendered[name] = string(value)
	}
	return json.NewEncoder(os.Stdout).Encode(rendered)
}

func octets(texts map[string]string) map[string][]byte {
	found := map[string][]byte{}
	for name, text := range texts {
		found[name] = []byte(text)
	}
	return found
}
