package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// The picture's measures, in pixels, and the decades of its axes: from 10 to 10,000
// roles, and from a hundred nanoseconds to ten milliseconds.
const (
	plotWidth, plotHeight = 420, 240
	left, top, right      = 70, 40, 230
	roleDecades           = 3
	costDecades, lowest   = 5, 100.0
)

var colours = map[string]string{"Tick": "#1a7f37", "Read": "#1a4fa0", "Rotate": "#b35900"}

// captions say what the benchmarks measure.
var captions = map[string]string{"Tick": "call of PeriodicFunc", "Read": "read of creds", "Rotate": "rotation, but for storage and server"}

// draw returns what the Go benchmarks say, cost against the number of roles, as SVG.
func draw(costs map[string]map[int]cost) string {
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", left+plotWidth+right, top+plotHeight+40)
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="white"/><g transform="translate(%d %d)">`+"\n", left, top)
	fmt.Fprintf(&out, `<text x="0" y="-18" font-weight="bold">Cost of one, against the number of roles in the mount</text>`+"\n")
	for decade := range costDecades + 1 {
		y := float64(plotHeight) * (1 - float64(decade)/costDecades)
		fmt.Fprintf(&out, `<line x1="0" x2="%d" y1="%.0f" y2="%.0f" stroke="#e5e5e5"/><text x="-8" y="%.0f" text-anchor="end" fill="#555">%s</text>`+"\n", plotWidth, y, y, y+4, duration(lowest*math.Pow10(decade)))
	}
	for decade := range roleDecades + 1 {
		fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="middle" fill="#555">%.0f</text>`+"\n", plotWidth*decade/roleDecades, plotHeight+20, 10*math.Pow10(decade))
	}
	for _, name := range slices.Sorted(maps.Keys(captions)) {
		drawCosts(&out, name, costs[name])
	}
	out.WriteString("</g></svg>\n")
	return out.String()
}

func drawCosts(out *strings.Builder, name string, costs map[int]cost) {
	var points []string
	x, y := 0.0, 0.0
	for _, roles := range slices.Sorted(maps.Keys(costs)) {
		x = plotWidth * math.Log10(float64(roles)/10) / roleDecades
		y = plotHeight * (1 - math.Log10(costs[roles].nanoseconds/lowest)/costDecades)
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
		fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x, y, colours[name])
	}
	fmt.Fprintf(out, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/><text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n",
		colours[name], strings.Join(points, " "), x+10, y+4, colours[name], captions[name])
}

// duration shows nanoseconds in the unit that fits.
func duration(ns float64) string {
	switch {
	case ns >= 1e6:
		return fmt.Sprintf("%g ms", ns/1e6)
	case ns >= 1e3:
		return fmt.Sprintf("%g µs", ns/1e3)
	}
	return fmt.Sprintf("%g ns", ns)
}
