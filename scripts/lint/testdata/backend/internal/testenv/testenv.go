// Package testenv stands in for the real one.
package testenv
