package backend

import "fmt"

// Spaced begins with an empty line.
func Spaced() {
 // want gofumpt
	fmt.Println()
}
