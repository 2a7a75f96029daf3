package acceptance

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// hostile generates what programs stumble over. The same seed gives the same.
type hostile struct{ *rand.Rand }

func newHostile(seed, stream uint64) *hostile {
	return &hostile{rand.New(rand.NewPCG(seed, stream))} //nolint:gosec // to be repeatable
}

// texts are strings, as JSON has them: some cannot be written otherwise.
var texts = []string{
	`""`, `" "`, `"'"`, `"\""`, `"\\"`, `"a'; DROP ROLE postgres; --"`, `"two\nlines"`, `"\r\n\r\n"`, `"nul\u0000byte"`, `"\u0000"`,
	`"rоle"`, `"ﬁne"`, `"ＦＵＬＬ"`, `"İstanbul"`, `"e\u0301"`, `"\u202egnol"`, `"\u2028\u2029"`, `"\ufffd"`, `"\ud800"`, `"\udfff\ud800"`, `"\ufeffbom"`,
	"\"\xff\xfe\"", "\"\xc0\x80\"", `"💥"`, `"\u001b[2J"`, `"../../etc/passwd"`, `"a/b"`, `"."`, `".."`, `"a..b"`, `"%2e%2e%2f"`, `"%00"`, `"%s%n%d"`,
	`"{{username}}"`, `"{{password}}{{"`, `"{{.}}"`, `"${jndi:ldap://x}"`, `"<script>"`, `"$(id)"`, `"-1"`, `"0"`, `"1e309"`, `"NaN"`, `"0x10"`,
	`"true"`, `"null"`, `"9999999999999999999999"`, `"-9223372036854775808"`, `"1h1h"`, `"99999999h"`, `"1ns"`, `"* * * * *"`, `"@every 1ns"`,
	`"*/0 0-99 31 2 8"`, `"postgresql://u:p@h/d?sslmode=none"`, `"postgresql:////"`, `"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"`, `"a,b,,c"`, `","`,
}

// others are values of other types.
var others = []string{
	`null`, `true`, `false`, `0`, `-1`, `1`, `60`, `0.5`, `1e308`, `1e999`, `-0`, `9223372036854775807`, `9223372036854775808`, `123456789012345678901234567890`,
	`[]`, `{}`, `[null]`, `[[]]`, `[{}]`, `[1,"a",true,null]`, `["a","a"]`, `{"a":{"b":"c"}}`, `[""]`, `["a",["b"]]`, `"1"`, `["jwt"]`, `"jwt,pin"`,
}

// text is a string as a program has it.
func (h *hostile) text() string {
	var text string
	if json.Unmarshal(h.literal(), &text) != nil {
		return "\xff"
	}
	return text
}

// literal is a string as JSON has it, sometimes a long one.
func (h *hostile) literal() json.RawMessage {
	if h.IntN(12) == 0 {
		length := []int{63, 64, 256, 1025, 33_000, 65_537, 300_000}[h.IntN(7)]
		return json.RawMessage(`"` + strings.Repeat("x", length) + `"`)
	}
	return json.RawMessage(texts[h.IntN(len(texts))])
}

// value is a value for a field. What is meant to be secret is unique, so that it
// can be searched for afterwards.
func (h *hostile) value(field string) json.RawMessage {
	if slices.Contains(secretFields, field) {
		return h.secret()
	}
	switch h.IntN(24) {
	case 0:
		return json.RawMessage(strings.Repeat("[", 32) + strings.Repeat("]", 32))
	case 1:
		return json.RawMessage(strings.Repeat(`{"a":`, 32) + "1" + strings.Repeat("}", 32))
	case 2:
		return h.long()
	case 3, 4, 5, 6, 7, 8, 9, 10:
		return json.RawMessage(others[h.IntN(len(others))])
	}
	return h.literal()
}

// secret is a value for a field that is meant to be secret, of a right or a wrong
// type.
func (h *hostile) secret() json.RawMessage {
	switch h.IntN(6) {
	case 0:
		return json.RawMessage(others[h.IntN(len(others))])
	case 1:
		return json.RawMessage(`["` + h.unique() + `"]`)
	case 2:
		return json.RawMessage(`{"a":["` + h.unique() + `"]}`)
	}
	literal := string(h.literal())
	return json.RawMessage(literal[:len(literal)-1] + h.unique() + `"`)
}

// long is a list of ten thousand.
func (h *hostile) long() json.RawMessage {
	element := []string{`"a"`, `1`, `""`, `"SELECT 1"`}[h.IntN(4)]
	if h.IntN(3) == 0 {
		var elements []string
		for i := range 10_000 {
			elements = append(elements, fmt.Sprintf(`"e%d"`, i))
		}
		return json.RawMessage("[" + strings.Join(elements, ",") + "]")
	}
	return json.RawMessage("[" + strings.Repeat(element+",", 9_999) + element + "]")
}

// unique is a value that nothing else has, remembered as a secret.
func (h *hostile) unique() string {
	value := fmt.Sprintf("unique-%016x%016x", h.Uint64(), h.Uint64())
	remember(value)
	return value
}

// noObject is a body that is no data.
func (h *hostile) noObject() []byte {
	bodies := []string{
		`[]`, `"x"`, `1`, `null`, `{`, `{"a":`, `{}{}`, `{"a":1,"a":2}`, "\x00", "\xff", strings.Repeat(`{"a":`, 32) + "1" + strings.Repeat("}", 32),
		strings.Repeat("[", 5000), `{"wrap_ttl":"1h"}`, `<xml/>`, `a=b&c=d`, "",
	}
	return []byte(bodies[h.IntN(len(bodies))])
}
