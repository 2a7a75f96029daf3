// Package pgx stands in for the real one.
package pgx
