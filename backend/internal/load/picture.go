package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// The picture's measures, in pixels.
const (
	width, panel  = 960, 190
	left, right   = 60, 20
	top, bottom   = 34, 26
	plotWidth     = width - left - right
	plotHeight    = panel - top - bottom
	lowest, peaks = 0.5, 5 // the latency axis: from half a millisecond, five decades
)

// draw returns the runs as SVG, one above the other: per second the median and
// the 99th percentile of latency, a red bar where requests failed, and a mark for
// each rotation.
func draw(results []*result) []byte {
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", width, panel*len(results))
	out.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i, r := range results {
		fmt.Fprintf(&out, `<g transform="translate(%d %d)">`+"\n", left, i*panel+top)
		r.draw(&out)
		out.WriteString("</g>\n")
	}
	out.WriteString("</svg>\n")
	return []byte(out.String())
}

func (r *result) draw(out *strings.Builder) {
	seconds := r.seconds()
	x := func(at time.Duration) float64 { return at.Seconds() / float64(max(1, len(seconds))) * plotWidth }
	fmt.Fprintf(out, `<text x="0" y="-18" font-size="13" font-weight="bold">%s</text>`+"\n", r.title)
	fmt.Fprintf(out, `<text x="0" y="-5" fill="#555">%d rotations, %d requests, %d failed; latency in ms: median (dark), 99th percentile (light)</text>`+"\n", len(r.delays), len(r.samples), countFailed(r.samples))
	for decade := range peaks {
		ms := lowest * math.Pow(10, float64(decade))
		fmt.Fprintf(out, `<line x1="0" x2="%d" y1="%.1f" y2="%.1f" stroke="#eee"/><text x="-6" y="%.1f" text-anchor="end" fill="#555">%g</text>`+"\n", plotWidth, y(ms), y(ms), y(ms)+4, ms)
	}
	for _, m := range r.marks {
		drawMark(out, m, x(m.begin))
	}
	for i, samples := range seconds {
		if failed := countFailed(samples); failed > 0 {
			height := math.Min(plotHeight, 4+plotHeight*float64(failed)/float64(len(samples)))
			fmt.Fprintf(out, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#d00"/>`+"\n", x(time.Duration(i)*time.Second), plotHeight-height, math.Max(1, x(time.Second)), height)
		}
	}
	drawLine(out, seconds, x, "#9bbcf0", func(_, p99 time.Duration) time.Duration { return p99 })
	drawLine(out, seconds, x, "#1a4fa0", func(p50, _ time.Duration) time.Duration { return p50 })
	fmt.Fprintf(out, `<text x="0" y="%d" fill="#555">0 s</text><text x="%d" y="%d" text-anchor="end" fill="#555">%d s</text>`+"\n", plotHeight+16, plotWidth, plotHeight+16, len(seconds))
}

// drawMark draws a rotation as a thin line, and what is out of the ordinary with
// its name.
func drawMark(out *strings.Builder, m *mark, x float64) {
	switch m.what {
	case "rotate":
		fmt.Fprintf(out, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#bbb"/>`+"\n", x, x, plotHeight-8, plotHeight)
	case "rollback":
		fmt.Fprintf(out, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#e08a00" stroke-width="2"/>`+"\n", x, x, plotHeight-8, plotHeight)
	default:
		fmt.Fprintf(out, `<line x1="%.1f" x2="%.1f" y1="0" y2="%d" stroke="#a0a" stroke-dasharray="3"/><text x="%.1f" y="10" fill="#a0a">%s</text>`+"\n", x, x, plotHeight, x+3, m.what)
	}
}

func drawLine(out *strings.Builder, seconds [][]sample, x func(time.Duration) float64, colour string, value func(p50, p99 time.Duration) time.Duration) {
	var points []string
	for i, samples := range seconds {
		if len(samples) > 0 {
			at := time.Duration(i)*time.Second + time.Second/2
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(at), y(float64(value(percentiles(samples)))/float64(time.Millisecond))))
		}
	}
	fmt.Fprintf(out, `<polyline fill="none" stroke="%s" stroke-width="1.3" points="%s"/>`+"\n", colour, strings.Join(points, " "))
}

// y is where a latency in milliseconds is drawn, on a logarithmic axis.
func y(ms float64) float64 {
	share := math.Log10(math.Max(ms, lowest)/lowest) / peaks
	return plotHeight * (1 - math.Min(share, 1))
}

// seconds returns the samples of each second of the run.
func (r *result) seconds() [][]sample {
	var found [][]sample
	for _, s := range r.samples {
		at := int(s.at / time.Second)
		for len(found) <= at {
			found = append(found, nil)
		}
		found[at] = append(found[at], s)
	}
	return found
}

func countFailed(samples []sample) (n int) {
	for _, s := range samples {
		if s.err != nil {
			n++
		}
	}
	return n
}
