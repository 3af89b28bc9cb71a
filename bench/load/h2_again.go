package main

import (
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// Refused calls wait in slots of a turn each; no pause is longer than all slots together.
const againSlots = 4096

// Between attempts to send a call for which no connection has room.
const fullPause = 10 * turn

// again holds the calls that are to be sent again.
type again struct {
	mutex sync.Mutex
	slots [againSlots][]stream
	// The slot that was emptied last.
	at   int64
	seen tally
}

func newAgain() *again {
	return &again{at: slotOf(time.Now())}
}

func slotOf(at time.Time) int64 {
	return at.UnixNano() / int64(turn)
}

// add has a call sent after a pause.
func (wait *again) add(call stream, pause time.Duration) {
	wait.mutex.Lock()
	defer wait.mutex.Unlock()
	slot := slotOf(time.Now().Add(pause))
	slot = min(max(slot, wait.at+1), wait.at+againSlots-1) % againSlots
	wait.slots[slot] = append(wait.slots[slot], call)
}

// take removes and returns the calls whose pause is over.
func (wait *again) take(now time.Time) []stream {
	wait.mutex.Lock()
	defer wait.mutex.Unlock()
	var found []stream
	for last := slotOf(now); wait.at < last; {
		wait.at++
		slot := wait.at % againSlots
		found = append(found, wait.slots[slot]...)
		wait.slots[slot] = nil
	}
	return found
}

func (wait *again) sum() tally {
	wait.mutex.Lock()
	defer wait.mutex.Unlock()
	return wait.seen
}

// repeat keeps a refused call to be sent again; false if that is not wanted, or too late. It counts
// as one call, however often it is sent.
func (run *h2Run) repeat(call stream, code codes.Code, pushback string) bool {
	refused := code == codes.ResourceExhausted || code == codes.Unavailable
	if !refused || call.repeats >= run.wanted.Repeats {
		return false
	}
	pause := time.Duration(0)
	if run.wanted.Obey {
		ms, err := strconv.Atoi(pushback)
		if err != nil || ms < 0 {
			// It names no pause, or forbids to try again.
			return false
		}
		pause = time.Duration(ms) * time.Millisecond
	}
	if time.Since(call.due)+pause > run.timeout {
		return false
	}
	call.repeats++
	call.answer = nil
	run.again.add(call, pause)
	return true
}

// sendAgain sends the calls whose pause is over, every turn, until the run is over.
func (run *h2Run) sendAgain() {
	ticker := time.NewTicker(turn)
	defer ticker.Stop()
	for {
		select {
		case <-run.over:
			return
		case now := <-ticker.C:
			full := false
			for _, call := range run.again.take(now) {
				full = run.sendOnceMore(call, now, full)
			}
		}
	}
}

// sendOnceMore sends a call that is not too late; `full`: there was no room for the one before. It
// returns whether there was none for this one.
func (run *h2Run) sendOnceMore(call stream, now time.Time, full bool) bool {
	seen := &run.again.seen
	switch {
	case now.Sub(call.due) > run.timeout:
		run.again.mutex.Lock()
		seen.note(answer{code: codes.ResourceExhausted}, call.due)
		run.again.mutex.Unlock()
		run.calls.Done()
	case !full && run.sendSomewhere(call):
		run.again.mutex.Lock()
		seen.repeated++
		run.again.mutex.Unlock()
	default:
		run.again.add(call, fullPause)
		return true
	}
	return full
}
