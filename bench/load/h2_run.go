package main

import (
	"encoding/base64"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"
)

const (
	// Calls of an open loop go out in turns of this length at most.
	turn = time.Millisecond
	// So many calls go through one connection before the next one is used: a write for each.
	inARow = 8
	// Calls that were due too long ago are looked for this often.
	expiryTurn = 50 * time.Millisecond
	// To connect and to be told the server's settings, however short the calls' deadline.
	greetTimeout = 10 * time.Second
	// Between attempts to connect again.
	reconnectPause = 50 * time.Millisecond
)

// h2Run is one command's calls over connections of its own.
type h2Run struct {
	wanted  command
	what    call
	plan    *schedule
	loops   bool
	timeout time.Duration
	head    []hpack.HeaderField
	// The connections in use, by their place, and all that there ever were.
	links []atomic.Pointer[link]
	mutex sync.Mutex
	all   []*link
	over  chan struct{}
	// Calls that were left out, because there was no room for them in time.
	heldBack int64
	// The same, because the generator had no time for them.
	starved int64
	again   *again
	// Calls in flight, and one for the loop that sends them.
	calls sync.WaitGroup
	// grpc-status-details-bin → outcome; refusals of a sale are all alike.
	outcomes sync.Map
}

func (run *h2Run) outcomeOfDetails(details string) uint64 {
	if known, found := run.outcomes.Load(details); found {
		return known.(uint64)
	}
	status, err := base64.RawStdEncoding.DecodeString(details)
	if err != nil {
		return 0
	}
	outcome := outcomeOfStatus(status)
	run.outcomes.Store(details, outcome)
	return outcome
}

func runH2(wanted command, what call, ended func()) (result, error) {
	run := &h2Run{
		wanted: wanted, what: what, loops: wanted.Rate == 0,
		links: make([]atomic.Pointer[link], wanted.Connections), over: make(chan struct{}),
		timeout: time.Duration(wanted.TimeoutS * float64(time.Second)), again: newAgain(),
	}
	// The order and the words of grpc-go.
	for _, pair := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", what.method},
		{":authority", wanted.Target}, {"content-type", "application/grpc"},
		{"user-agent", "grpc-go/1.85.0"}, {"te", "trailers"},
		{"grpc-timeout", fmt.Sprintf("%dm", run.timeout.Milliseconds())},
	} {
		run.head = append(run.head, hpack.HeaderField{Name: pair[0], Value: pair[1]})
	}
	defer run.close()
	for place := range run.links {
		if err := run.open(place); err != nil {
			return result{}, err
		}
	}
	run.plan = newSchedule(wanted)
	run.calls.Add(1)
	go run.expire()
	if wanted.Repeats > 0 {
		go run.sendAgain()
	}
	if run.loops {
		run.fill()
	} else {
		run.pace()
	}
	run.calls.Done()
	run.calls.Wait()
	seconds := time.Since(run.plan.start).Seconds()
	ended()
	run.close()
	tallies := make([]tally, len(run.all), len(run.all)+1)
	for i, one := range run.all {
		one.mutex.Lock()
		tallies[i] = one.seen
		one.mutex.Unlock()
	}
	found, err := summarize(append(tallies, run.again.sum()), run.plan.start, seconds)
	found.Reconnects = int64(len(run.all) - len(run.links))
	found.HeldBack = run.heldBack
	found.Starved = run.starved
	return found, err
}

// open connects, for a place where no connection is in use.
func (run *h2Run) open(place int) error {
	one, err := openLink(run, place)
	if err != nil {
		return err
	}
	run.mutex.Lock()
	defer run.mutex.Unlock()
	if run.closed() {
		return one.conn.Close()
	}
	run.all = append(run.all, one)
	run.links[place].Store(one)
	go one.write()
	go one.read()
	return nil
}

// replace connects again, as clients do. (A closed loop would notice: its calls were lost.)
func (run *h2Run) replace(gone *link) {
	for !run.closed() {
		if err := run.open(gone.place); err == nil {
			return
		}
		time.Sleep(reconnectPause)
	}
}

func (run *h2Run) closed() bool {
	select {
	case <-run.over:
		return true
	default:
		return false
	}
}

// close ends all connections; the second time nothing happens.
func (run *h2Run) close() {
	run.mutex.Lock()
	defer run.mutex.Unlock()
	if run.closed() {
		return
	}
	close(run.over)
	for _, one := range run.all {
		one.conn.Close()
	}
}

// fill starts a closed loop: as many calls on each connection as there may be.
func (run *h2Run) fill() {
	for range run.wanted.InFlight {
		for place := range run.links {
			one := run.links[place].Load()
			one.mutex.Lock()
			if len(one.streams) < one.streamsMax {
				run.follow(one)
			}
			one.mutex.Unlock()
			one.wakeWriter()
		}
	}
}

// follow sends the next call of a closed loop on this connection, whose mutex is held.
func (run *h2Run) follow(one *link) {
	if one.ended {
		return
	}
	n, due, more := run.plan.take()
	if !more {
		return
	}
	run.calls.Add(1)
	if !one.sendLocked(stream{n: n, due: due}) {
		// The server's window is full: this loop of calls ends, the others go on.
		run.calls.Done()
	}
}

// pace sends the calls of an open loop when they are due, or as soon as there is room after that.
func (run *h2Run) pace() {
	plan := run.plan
	full := false
	for n := int64(0); plan.total == 0 || n < plan.total; {
		now := time.Now()
		if !plan.deadline.IsZero() {
			over := plan.dueAt(n)
			if run.wanted.Skip && now.After(over) {
				over = now
			}
			if over.After(plan.deadline) {
				return
			}
		}
		due := plan.dueAt(n)
		if wait := due.Sub(now); wait > 0 {
			time.Sleep(max(wait, turn))
			continue
		}
		if run.wanted.Skip && now.Sub(due) > run.timeout {
			// Too late for its caller: the schedule goes on from here.
			next := int64(now.Sub(plan.start) / plan.interval)
			if full {
				run.heldBack += next - n
			} else {
				run.starved += next - n
			}
			n = next
			continue
		}
		run.calls.Add(1)
		full = !run.sendSomewhere(stream{n: n, due: due})
		if full {
			run.calls.Done()
			time.Sleep(turn)
			continue
		}
		n++
	}
}

// sendSomewhere sends a call on the connection whose turn it is, or on the next one with room.
func (run *h2Run) sendSomewhere(call stream) bool {
	first := int(call.n/inARow) % len(run.links)
	for i := range run.links {
		one := run.links[(first+i)%len(run.links)].Load()
		if one.send(call) {
			one.wakeWriter()
			return true
		}
	}
	return false
}

func (run *h2Run) expire() {
	ticker := time.NewTicker(expiryTurn)
	defer ticker.Stop()
	for {
		select {
		case <-run.over:
			return
		case now := <-ticker.C:
			for place := range run.links {
				run.links[place].Load().expire(now)
			}
		}
	}
}
