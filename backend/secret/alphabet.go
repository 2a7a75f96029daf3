package secret

import (
	"crypto/rand"
	"math"
	"math/big"
	"strings"
)

// base62 is the alphabet of API keys, in the order that gives the digits of
// their checksum.
const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// pick returns length characters, each chosen uniformly and independently from
// alphabet by the system's random source.
func pick(alphabet []rune, length int) string {
	var b strings.Builder
	size := big.NewInt(int64(len(alphabet)))
	for range length {
		// rand.Int rejects instead of reducing, so no character is favoured; the
		// source never fails (crypto/rand ends the process instead).
		n, err := rand.Int(rand.Reader, size)
		if err != nil {
			panic("secret: internal error: " + err.Error())
		}
		b.WriteRune(alphabet[n.Int64()])
	}
	return b.String()
}

// entropy is the number of bits in a string of that many characters picked from
// an alphabet of that size.
func entropy(alphabet, length int) float64 {
	return float64(length) * math.Log2(float64(alphabet))
}
