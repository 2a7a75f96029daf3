// Package placeholder puts values into texts that name them, such as {{api_key}}.
package placeholder

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var pattern = regexp.MustCompile(`\{\{([^{}]*)\}\}`)

// Fill puts values in for placeholders. One for which there is no value becomes
// empty.
func Fill(text string, values map[string]string) string {
	return pattern.ReplaceAllStringFunc(text, func(hole string) string {
		return values[strings.TrimSpace(hole[2:len(hole)-2])]
	})
}

// Names lists what the placeholders of a text name, in order.
func Names(text string) []string {
	var names []string
	for _, hole := range pattern.FindAllStringSubmatch(text, -1) {
		names = append(names, strings.TrimSpace(hole[1]))
	}
	return names
}

// Check says which placeholder of a text is not among the names there are.
func Check(text string, names []string) error {
	for _, name := range Names(text) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("{{%s}} is not known; the role has: %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}
