package jwt

import "slices"

const (
	// maxToken is the length in bytes above which no token is signed or verified: no
	// server takes as much in a header, and whoever may ask for either shares the
	// engine with others.
	maxToken = 64 << 10
	// maxClaims is how many claims a token and a configuration name at most, because
	// each name is compared with others.
	maxClaims = 1000
)

// inherits reports whether a value has, at any depth, a name that JavaScript takes for
// the object which others inherit from: who copies the claims, as Object.assign does
// and functions that merge, then has the claims that are in there.
func inherits(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		if _, has := v["__proto__"]; has {
			return true
		}
		if made, ok := v["constructor"].(map[string]any); ok {
			if _, has := made["prototype"]; has {
				return true
			}
		}
		for _, each := range v {
			if inherits(each) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, inherits)
	}
	return false
}
