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

// Check says which placeholder of a text is not among the names there are.
func Check(text string, names []string) error {
	for _, hole := range pattern.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(names, strings.TrimSpace(hole[1])) {
			return fmt.Errorf("%s is not known; the role has: %s", hole[0], strings.Join(names, ", "))
		}
	}
	return nil
}
