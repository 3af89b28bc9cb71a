package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Upper bounds of the histogram of seconds, as the mesh's own.
var bounds = [...]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}

// counters is what Prometheus is told.
type counters struct {
	outcomes [8]atomic.Int64
	seconds  [len(bounds) + 1]atomic.Int64
}

func (all *counters) count(outcome int64, start time.Time) {
	if outcome >= 0 && outcome < int64(len(all.outcomes)) {
		all.outcomes[outcome].Add(1)
	}
	took := time.Since(start).Seconds()
	for i, bound := range bounds {
		if took <= bound {
			all.seconds[i].Add(1)
			return
		}
	}
	all.seconds[len(bounds)].Add(1)
}

func (all *counters) write(to io.Writer) {
	for outcome := range all.outcomes {
		fmt.Fprintf(to, "rival_attempts_total{outcome=\"%d\"} %d\n", outcome, all.outcomes[outcome].Load())
	}
	below := int64(0)
	for i := range all.seconds {
		below += all.seconds[i].Load()
		bound := "+Inf"
		if i < len(bounds) {
			bound = fmt.Sprint(bounds[i])
		}
		fmt.Fprintf(to, "rival_attempt_seconds_bucket{le=\"%s\"} %d\n", bound, below)
	}
}
