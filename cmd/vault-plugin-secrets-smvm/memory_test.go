package main

import "testing"

func TestPercent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		live  uint64
		spare int
		want  int
	}{
		{0, restBytes, mostPercent},
		{1 << 20, restBytes, mostPercent},
		{8 << 20, restBytes, 110},
		{100 << 20, restBytes, 18},
		{100 << 20, busyBytes, 42},
		{1 << 40, busyBytes, sharePercent},
	} {
		if got := percent(c.live, c.spare); got != c.want {
			t.Errorf("with %d bytes in use and %d to spare: %d, not %d", c.live, c.spare, got, c.want)
		}
	}
}
