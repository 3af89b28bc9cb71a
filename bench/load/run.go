package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

type connection = grpc.ClientConn

// generator keeps connections and buyers from command to command.
type generator struct {
	connections map[string][]*connection
	buyers      []*buyer
	// Presses made by earlier commands.
	pressed int64
}

// rawCodec passes serialized messages through.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (load *generator) dial(target string, count int) ([]*connection, error) {
	found := load.connections[target]
	for len(found) < count {
		opened, err := grpc.NewClient("passthrough:///"+target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})),
			grpc.WithDisableServiceConfig(), grpc.WithDisableRetry())
		if err != nil {
			return nil, err
		}
		found = append(found, opened)
	}
	load.connections[target] = found
	return found[:count], nil
}

// tally is what one worker has seen.
type tally struct {
	statuses  [17]int64
	outcomes  [len(outcomeNames)]int64
	latencies []time.Duration
	err       error
}

// schedule gives out the numbers of calls, and when each is due.
type schedule struct {
	next     atomic.Int64
	total    int64
	begun    time.Time
	deadline time.Time
	interval time.Duration
}

// take waits until the next call is due; its number and due time, or false at the end.
func (plan *schedule) take() (int64, time.Time, bool) {
	n := plan.next.Add(1) - 1
	if plan.total > 0 && n >= plan.total {
		return 0, time.Time{}, false
	}
	now := time.Now()
	due := now
	if plan.interval > 0 {
		// Latency counts from here, also where every worker is held up by slow answers: else what
		// was not sent in time would be missing from the figures (coordinated omission).
		due = plan.begun.Add(time.Duration(n) * plan.interval)
		if wait := due.Sub(now); wait > 0 {
			time.Sleep(wait)
		}
	}
	if !plan.deadline.IsZero() && due.After(plan.deadline) {
		return 0, time.Time{}, false
	}
	return n, due, true
}

func work(plan *schedule, through *connection, what call, timeout time.Duration, seen *tally) {
	for {
		n, due, more := plan.take()
		if !more {
			return
		}
		parent, request, err := what.request(n)
		if err != nil {
			seen.err = err
			return
		}
		ctx, cancel := context.WithTimeout(parent, timeout)
		var response []byte
		err = through.Invoke(ctx, what.method, &request, &response)
		cancel()
		code := status.Code(err)
		seen.statuses[code]++
		if code == codes.OK {
			seen.latencies = append(seen.latencies, time.Since(due))
			if outcome := what.answered(n, response); outcome < uint64(len(outcomeNames)) {
				seen.outcomes[outcome]++
			}
		}
	}
}

// run sends the calls of one command and waits for all answers.
func (load *generator) run(wanted command, ended func()) (result, error) {
	what, err := load.newCall(wanted)
	if err != nil {
		return result{}, err
	}
	connections, err := load.dial(wanted.Target, wanted.Connections)
	if err != nil {
		return result{}, err
	}
	begun := time.Now()
	plan := &schedule{total: wanted.Total, begun: begun}
	if wanted.Seconds > 0 {
		plan.deadline = begun.Add(time.Duration(wanted.Seconds * float64(time.Second)))
	}
	if wanted.Rate > 0 {
		plan.interval = time.Duration(float64(time.Second) / wanted.Rate)
	}
	timeout := time.Duration(wanted.TimeoutS * float64(time.Second))
	tallies := make([]tally, wanted.Connections*wanted.InFlight)
	var workers sync.WaitGroup
	for i := range tallies {
		workers.Go(func() {
			work(plan, connections[i%len(connections)], what, timeout, &tallies[i])
		})
	}
	workers.Wait()
	seconds := time.Since(begun).Seconds()
	ended()
	if wanted.Call == "purchase" {
		load.pressed += plan.next.Load()
	}
	return summarize(tallies, seconds)
}
