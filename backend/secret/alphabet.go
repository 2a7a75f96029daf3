package secret

import (
	"crypto/rand"
	"math/big"
	"strings"
)

// Base62 is the alphabet of API keys, in the order that gives the digits of
// their checksum.
const Base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Pick returns length characters, each chosen uniformly and independently from
// alphabet by the system's random source.
func Pick(alphabet []rune, length int) string {
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
