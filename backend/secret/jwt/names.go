package jwt

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// registeredClaims are those of RFC 7519 section 4.1, which libraries read from a
// token by themselves.
var registeredClaims = []string{"aud", "exp", "iat", "iss", "jti", "nbf", "sub"}

// unseen are the characters that a name may not have, because nobody sees them:
// controls, marks of direction, joiners, fillers, selectors of variants.
var unseen = []*unicode.RangeTable{unicode.Cc, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point}

// dots are of i, which folding of Unicode tells apart and Java does not.
var dots = strings.NewReplacer("İ", "i", "ı", "i")

// fold makes names equal that some decoder takes for the same when it fills in a
// field: encoding/json of Go ignores case as Unicode folds it, so that "ſub" is sub;
// others normalize first, or fold to more than one character. What is equal under
// strings.EqualFold is equal here.
func fold(name string) string {
	if !strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		return strings.ToUpper(name) // as below, and quickly
	}
	folder := cases.Fold()
	name = folder.String(norm.NFKC.String(dots.Replace(name)))
	return strings.ToUpper(norm.NFKC.String(folder.String(name)))
}

// hyphens are what encoding/json/v2 may pass over as well.
var hyphens = strings.NewReplacer("-", "", "_", "")

// alike returns the first of names that any decoder takes for name, empty if none
// does.
func alike(names []string, name string) string {
	folded := hyphens.Replace(fold(name))
	at := slices.IndexFunc(names, func(other string) bool { return hyphens.Replace(fold(other)) == folded })
	if at < 0 {
		return ""
	}
	return names[at]
}

// variant returns the registered claim that name is taken for and is not.
func variant(name string) string {
	if meant := alike(registeredClaims, name); meant != name {
		return meant
	}
	return ""
}

// checkNames refuses names of claims that mean something else to who reads a token
// than to who made it: two that are taken for the same, one that is taken for a
// registered claim, and what nobody sees.
func checkNames(field string, names []string) error {
	if len(names) > maxClaims {
		return rotation.Invalid(field, "has %d names; the limit is %d", len(names), maxClaims)
	}
	known := map[string]string{}
	for _, name := range names {
		if !utf8.ValidString(name) || strings.ContainsRune(name, utf8.RuneError) || strings.ContainsFunc(name, isUnseen) {
			return rotation.Invalid(field, "has the name %+q, with invisible characters: leave them out", name)
		}
		if meant := variant(name); meant != "" {
			return rotation.Invalid(field, "has the name %+q, which libraries take for %s: write %s, or choose another name", name, meant, meant)
		}
		folded := fold(name)
		if other, has := known[folded]; has {
			return rotation.Invalid(field, "has the names %+q and %+q, which libraries take for the same name: leave one of them out", other, name)
		}
		known[folded] = name
	}
	return nil
}

func isUnseen(r rune) bool { return unicode.In(r, unseen...) }

// namesOf are the names of claims, in order.
func namesOf(claims map[string]any) []string { return slices.Sorted(maps.Keys(claims)) }

// ambiguous reports whether who reads the claims of a token may take one of them
// for another, or for one that the configuration denies.
func (c Config) ambiguous(claims map[string]any) bool {
	names := namesOf(claims)
	return checkNames("claims", names) != nil || inherits(claims) || slices.ContainsFunc(names, func(name string) bool {
		denied := alike(c.DeniedClaims, name)
		return denied != "" && !slices.Contains(c.DeniedClaims, name)
	})
}

// errTwice says that a name stands twice in an object: some read the first, some
// the last.
var errTwice = errors.New("it has a name twice")

// checkOnce reads a JSON value and refuses one in which an object, at any depth,
// has a name twice, or after which there is more.
func checkOnce(text string) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := readOnce(decoder); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("it has more than one value")
	}
	return nil
}

// readOnce reads the next value of decoder for checkOnce.
func readOnce(decoder *json.Decoder) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	opening, isDelim := token.(json.Delim)
	if !isDelim {
		return nil
	}
	for names := map[string]bool{}; decoder.More(); {
		if opening == '{' {
			name, err := decoder.Token()
			if err != nil {
				return err
			}
			if names[name.(string)] {
				return errTwice
			}
			names[name.(string)] = true
		}
		if err := readOnce(decoder); err != nil {
			return err
		}
	}
	_, err = decoder.Token()
	return err
}
