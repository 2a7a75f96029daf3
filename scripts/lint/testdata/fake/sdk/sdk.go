// Package sdk stands in for the real one.
package sdk
