package main

import "math/bits"

// Nanoseconds to one part in 128: below 256 each is counted by itself, above that each
// power of two has 128 steps.
type histogram struct {
	calls  uint64
	counts [(40 - 6) * steps]uint32
}

const (
	steps    = 128
	stepBits = 7
)

func (h *histogram) add(nanoseconds uint64) {
	h.calls++
	h.counts[bucket(min(nanoseconds, 1<<40-1))]++
}

func bucket(value uint64) int {
	shift := max(bits.Len64(value), stepBits+1) - (stepBits + 1)
	return shift*steps + int(value>>shift)
}

// In microseconds; the least value of the step.
func (h *histogram) quantile(part float64) float64 {
	rank := uint64(part*float64(h.calls) + 0.5)
	var seen uint64
	for at, count := range h.counts {
		seen += uint64(count)
		if seen >= rank && count > 0 {
			shift := max(at/steps-1, 0)
			return float64(uint64(at-shift*steps)<<shift) / 1e3
		}
	}
	return 0
}
