package main

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
)

var quantiles = []struct {
	name string
	at   float64
}{{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}}

// summarize adds the workers' tallies up; an error where one of them could not go on.
func summarize(tallies []tally, start time.Time, seconds float64) (result, error) {
	found := result{
		Seconds:  seconds,
		Statuses: map[string]int64{}, Outcomes: map[string]int64{}, LatencyMs: map[string]float64{},
	}
	var latencies []time.Duration
	for i := range tallies {
		seen := &tallies[i]
		if seen.err != nil {
			return found, seen.err
		}
		for code, count := range seen.statuses {
			if count > 0 {
				found.Statuses[codes.Code(code).String()] += count
				found.Calls += count
			}
		}
		for outcome, count := range seen.outcomes {
			if count > 0 && outcome > 0 {
				found.Outcomes[outcomeNames[outcome]] += count
			}
		}
		latencies = append(latencies, seen.latencies...)
		found.Reconnects += seen.closed
		found.HeldBack += seen.heldBack
		found.Repeated += seen.repeated
		found.GoodSeconds = max(found.GoodSeconds, seen.lastOK.Sub(start).Seconds())
	}
	slices.Sort(latencies)
	for _, quantile := range quantiles {
		if len(latencies) > 0 {
			at := min(int(quantile.at*float64(len(latencies))), len(latencies)-1)
			found.LatencyMs[quantile.name] = float64(latencies[at].Microseconds()) / 1000
		}
	}
	return found, nil
}
