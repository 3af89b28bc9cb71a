// Command bench-load sends calls and reports how they ended.
//
// It reads one JSON command a line from standard input and answers each on standard output: first
// {"event":"ended"}, the moment the last call is over, so that the harness can read the servers'
// clocks, then the result. Connections and buyers are kept from command to command.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
)

// command is one line of standard input.
type command struct {
	// mint: make buyers; run: send calls; redis: run a script as redis-benchmark would.
	Op string `json:"op"`

	// mint
	Count    int    `json:"count"`
	Prefix   string `json:"prefix"`
	Jwks     string `json:"jwks"`
	Issuer   string `json:"issuer"`
	Audience string `json:"audience"`

	// run: what is called, and where.
	Call        string  `json:"call"`
	Target      string  `json:"target"`
	Connections int     `json:"connections"`
	InFlight    int     `json:"in_flight"`
	TimeoutS    float64 `json:"timeout_s"`
	Sku         string  `json:"sku"`
	// "grpc": grpc-go, as a service would call; "h2": gRPC too, at a third of the cost (h2.go);
	// "http": JSON over HTTP/1.1 to Path, one call at a time on each connection.
	Transport string `json:"transport"`
	Path      string `json:"path"`
	// Tell the sku as metadata too.
	TellSku bool `json:"tell_sku"`
	// Buyers [first, first+buyers) of those minted, in blocks whose members buy in turn, each with
	// so many attempts; the next block follows.
	First    int     `json:"first"`
	Buyers   int     `json:"buyers"`
	Block    int     `json:"block"`
	Attempts float64 `json:"attempts"`
	// Calls to send, or seconds to go on for; the first limit that is reached ends the run.
	Total   int64   `json:"total"`
	Seconds float64 `json:"seconds"`
	// Calls a second on a fixed schedule (open loop); 0 sends as fast as answers come (closed).
	Rate float64 `json:"rate"`
	// In an open loop: leave out what cannot be sent within the timeout from when it was due.
	Skip bool `json:"skip"`
	// h2: so often a call that was refused is sent again while its timeout, counted from when it
	// was due, is not over; at once, or after the pause that the refusal names.
	Repeats int  `json:"repeats"`
	Obey    bool `json:"obey"`

	// redis
	Address  string   `json:"address"`
	Database int      `json:"database"`
	Pipeline int      `json:"pipeline"`
	Script   string   `json:"script"`
	Keys     []string `json:"keys"`
}

// result is what a command answers.
type result struct {
	Calls   int64   `json:"calls"`
	Seconds float64 `json:"seconds"`
	// Calls by gRPC status, and by the outcome of the purchase.
	Statuses map[string]int64 `json:"statuses"`
	Outcomes map[string]int64 `json:"outcomes"`
	// Latency of calls that were OK or had an outcome, in milliseconds, by "p50", "p95", …
	LatencyMs map[string]float64 `json:"latency_ms"`
	// Connections that the server has closed (grpc-go does not tell).
	Reconnects int64 `json:"reconnects"`
	// Calls of an open loop that were never sent, because there was no room for them in time.
	HeldBack int64 `json:"held_back"`
	// The same, because the generator had no time for them.
	Starved int64 `json:"starved"`
	// Refused calls that were sent again.
	Repeated int64 `json:"repeated"`
	// From the start to the last answer that was OK.
	GoodSeconds float64 `json:"good_seconds"`
	Error       string  `json:"error,omitempty"`
}

func execute(load *generator, line []byte, ended func()) (result, error) {
	var wanted command
	if err := json.Unmarshal(line, &wanted); err != nil {
		return result{}, err
	}
	switch wanted.Op {
	case "mint":
		defer ended()
		return result{Calls: int64(wanted.Count)}, load.mint(wanted)
	case "run":
		return load.run(wanted, ended)
	case "redis":
		return runScript(wanted, ended)
	}
	return result{}, fmt.Errorf("no such op: %q", wanted.Op)
}

func main() {
	// Buyers are many small objects that live for ever: looking at them rarely is enough.
	debug.SetGCPercent(400)
	load := &generator{connections: map[string][]*connection{}}
	answers := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		ended := func() { fmt.Println(`{"event":"ended"}`) }
		found, err := execute(load, lines.Bytes(), ended)
		if err != nil {
			found.Error = err.Error()
		}
		if err := answers.Encode(found); err != nil {
			os.Exit(1)
		}
	}
}
