package main

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// callID stands for the id of a call, which the gateway's have.
const callID = "4bf92f3577b34da6a3ce929d0e0e4736"

// runScript does what `redis-benchmark -P <pipeline> -c <connections> EVALSHA …` does: each
// connection sends a pipeline of calls of reserve.lua with one attempt, of a new buyer, and reads
// the answers. The wheels that bring Redis do not bring redis-benchmark.
func runScript(wanted command, ended func()) (result, error) {
	var next atomic.Int64
	errors := make([]error, wanted.Connections)
	var workers sync.WaitGroup
	start := time.Now()
	for i := range wanted.Connections {
		workers.Go(func() { errors[i] = pipeline(wanted, &next) })
	}
	workers.Wait()
	seconds := time.Since(start).Seconds()
	ended()
	for _, err := range errors {
		if err != nil {
			return result{}, err
		}
	}
	calls := wanted.Total
	return result{Calls: calls, Seconds: seconds, Outcomes: map[string]int64{"RESERVED": calls}}, nil
}

func pipeline(wanted command, next *atomic.Int64) error {
	link, err := net.Dial("tcp", wanted.Address)
	if err != nil {
		return err
	}
	defer link.Close()
	answers := bufio.NewReaderSize(link, 64<<10)
	fmt.Fprintf(link, "SELECT %d\r\n", wanted.Database)
	if line, err := answers.ReadString('\n'); err != nil || line != "+OK\r\n" {
		return fmt.Errorf("SELECT answered %q: %w", line, err)
	}
	var commands []byte
	for {
		first := next.Add(int64(wanted.Pipeline)) - int64(wanted.Pipeline)
		count := min(int64(wanted.Pipeline), wanted.Total-first)
		if count <= 0 {
			return nil
		}
		commands = commands[:0]
		for n := first; n < first+count; n++ {
			commands = appendCall(commands, wanted, n)
		}
		if _, err := link.Write(commands); err != nil {
			return err
		}
		for range count {
			if err := readReserved(answers); err != nil {
				return err
			}
		}
	}
}

func appendCall(to []byte, wanted command, n int64) []byte {
	arguments := []string{"EVALSHA", wanted.Script, strconv.Itoa(len(wanted.Keys))}
	arguments = append(arguments, wanted.Keys...)
	number := strconv.FormatInt(n, 10)
	orderNo := strings.Repeat("0", 26-len(number)) + number
	user := wanted.Prefix + "-" + number
	arguments = append(arguments, wanted.Sku, "1000000000", callID, user, "attempt-"+number, "1", orderNo)
	to = fmt.Appendf(to, "*%d\r\n", len(arguments))
	for _, argument := range arguments {
		to = fmt.Appendf(to, "$%d\r\n%s\r\n", len(argument), argument)
	}
	return to
}

// readReserved reads the answer [0, units left, 1, order number]; an error where it is another one.
func readReserved(answers *bufio.Reader) error {
	for _, wanted := range []string{"*4", ":0", "", ":1", "$26", ""} {
		line, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if found := strings.TrimSpace(line); wanted != "" && found != wanted {
			return fmt.Errorf("the script answered %q instead of %q", found, wanted)
		}
	}
	return nil
}
