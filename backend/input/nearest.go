package input

import "strings"

// Nearest returns the one of names that a text was most likely meant to be: it differs by
// a letter or two, or has the text in it. It is "" if there is none.
func Nearest(text string, names []string) (nearest string) {
	text = strings.ReplaceAll(strings.ToLower(text), "-", "_")
	least := min(len(text)/3, 2) + 1
	for _, name := range names {
		if d := distance(text, strings.ToLower(name)); d < least {
			nearest, least = name, d
		}
	}
	if nearest != "" || len(text) < 4 {
		return nearest
	}
	for _, name := range names {
		if strings.Contains(name, text) && (nearest == "" || len(name) < len(nearest)) {
			nearest = name
		}
	}
	return nearest
}

// distance is that of Levenshtein: how many letters have to be added, removed or replaced
// to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
