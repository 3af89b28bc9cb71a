package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

type connection = grpc.ClientConn

// More than any command sends.
const attemptsMax = 1 << 32

// generator keeps connections and buyers from command to command.
type generator struct {
	connections map[string][]*connection
	buyers      []*buyer
	// The first number of an attempt that no earlier command can have used.
	attempts int64
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

// answer is what became of one call.
type answer struct {
	code    codes.Code
	outcome uint64
	// Latency counts from here; zero: from when the call was due.
	since time.Time
	// The server has closed the connection.
	closed bool
}

// sender makes one call at a time, which was due at `due`, and waits for its answer; an error ends
// the run.
type sender interface {
	send(n int64, due time.Time) (answer, error)
}

// tally is what one worker has seen.
type tally struct {
	statuses  [17]int64
	outcomes  [len(outcomeNames)]int64
	latencies []time.Duration
	lastOK    time.Time
	closed    int64
	heldBack  int64
	repeated  int64
	err       error
}

// note adds one call that was due at `due`.
func (seen *tally) note(got answer, due time.Time) {
	seen.statuses[got.code]++
	if got.outcome < uint64(len(outcomeNames)) {
		seen.outcomes[got.outcome]++
	}
	if got.closed {
		seen.closed++
	}
	if !got.since.IsZero() {
		due = got.since
	}
	if got.code == codes.OK || got.outcome > 0 {
		now := time.Now()
		seen.latencies = append(seen.latencies, now.Sub(due))
		if got.code == codes.OK {
			seen.lastOK = now
		}
	}
}

// schedule gives out the numbers of calls, and when each is due.
type schedule struct {
	next     atomic.Int64
	total    int64
	start    time.Time
	deadline time.Time
	interval time.Duration
	// What was due longer ago than this is left out, or late; 0: nothing is.
	late time.Duration
}

func newSchedule(wanted command) *schedule {
	plan := &schedule{total: wanted.Total, start: time.Now()}
	if wanted.Seconds > 0 {
		plan.deadline = plan.start.Add(time.Duration(wanted.Seconds * float64(time.Second)))
	}
	if wanted.Rate > 0 {
		plan.interval = time.Duration(float64(time.Second) / wanted.Rate)
	}
	if wanted.Skip {
		plan.late = time.Duration(wanted.TimeoutS * float64(time.Second))
	}
	return plan
}

// dueAt is when the n-th call of an open loop is due.
func (plan *schedule) dueAt(n int64) time.Time {
	return plan.start.Add(time.Duration(n) * plan.interval)
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
		// Latency counts from here, also while every worker is held up by slow answers: else what
		// was not sent in time would be missing from the figures (coordinated omission).
		due = plan.dueAt(n)
		if wait := due.Sub(now); wait > 0 {
			time.Sleep(wait)
		}
	}
	if !plan.deadline.IsZero() && due.After(plan.deadline) {
		return 0, time.Time{}, false
	}
	return n, due, true
}

func work(plan *schedule, through sender, seen *tally) {
	for {
		n, due, more := plan.take()
		if !more {
			return
		}
		if plan.late > 0 && time.Since(due) > plan.late {
			seen.heldBack++
			continue
		}
		got, err := through.send(n, due)
		if err != nil {
			seen.err = err
			return
		}
		if plan.late > 0 && got.code == codes.OK && time.Since(due) > plan.late {
			got.code = codes.DeadlineExceeded
		}
		seen.note(got, due)
	}
}

// grpcSender calls through grpc-go.
type grpcSender struct {
	through *connection
	what    call
	timeout time.Duration
}

func (one *grpcSender) invoke(who *buyer, method string, request []byte) ([]byte, error) {
	parent := who.ctx
	if one.what.sku != "" {
		parent = metadata.AppendToOutgoingContext(parent, skuMetadata, one.what.sku)
	}
	ctx, cancel := context.WithTimeout(parent, one.timeout)
	defer cancel()
	var response []byte
	err := one.through.Invoke(ctx, method, &request, &response)
	return response, err
}

func (one *grpcSender) send(n int64, _ time.Time) (answer, error) {
	who, request, err := one.what.request(n)
	if err != nil {
		return answer{}, err
	}
	response, err := one.invoke(who, one.what.method, request)
	if err != nil {
		got := answer{code: status.Code(err)}
		if got.code == codes.FailedPrecondition {
			got.outcome = outcomeOfError(err)
		}
		return got, nil
	}
	return answer{outcome: one.what.answered(n, response)}, nil
}

func outcomeOfError(err error) uint64 {
	serialized, err := proto.Marshal(status.Convert(err).Proto())
	if err != nil {
		return 0
	}
	return outcomeOfStatus(serialized)
}

// senders returns as many as there may be calls in flight.
func (load *generator) senders(wanted command, what call) ([]sender, error) {
	found := make([]sender, wanted.Connections*wanted.InFlight)
	timeout := time.Duration(wanted.TimeoutS * float64(time.Second))
	if wanted.Transport == "http" {
		if what.json == nil || wanted.InFlight != 1 {
			return nil, fmt.Errorf("HTTP/1.1 takes purchases, one at a time on a connection")
		}
		for i := range found {
			found[i] = newHTTPSender(wanted, what, timeout)
		}
		return found, nil
	}
	connections, err := load.dial(wanted.Target, wanted.Connections)
	if err != nil {
		return nil, err
	}
	for i := range found {
		one := grpcSender{through: connections[i%len(connections)], what: what, timeout: timeout}
		switch wanted.Call {
		case "visible", "paid":
			found[i] = &followSender{grpcSender: one, pay: wanted.Call == "paid"}
		case "pay":
			found[i] = &paySender{one}
		default:
			found[i] = &one
		}
	}
	return found, nil
}

// run sends the calls of one command and waits for all answers.
func (load *generator) run(wanted command, ended func()) (result, error) {
	what, err := load.newCall(wanted)
	if err != nil {
		return result{}, err
	}
	if what.json != nil {
		defer func() { load.attempts += attemptsMax }()
	}
	if wanted.Transport == "h2" {
		return runH2(wanted, what, ended)
	}
	through, err := load.senders(wanted, what)
	if err != nil {
		return result{}, err
	}
	tallies := make([]tally, len(through))
	plan := newSchedule(wanted)
	var workers sync.WaitGroup
	for i := range tallies {
		workers.Go(func() { work(plan, through[i], &tallies[i]) })
	}
	workers.Wait()
	seconds := time.Since(plan.start).Seconds()
	ended()
	for _, one := range through {
		if closer, open := one.(io.Closer); open {
			closer.Close()
		}
	}
	return summarize(tallies, plan.start, seconds)
}
