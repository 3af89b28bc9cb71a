package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
)

// gRPC over HTTP/2 as grpc-go sends it, byte for byte, but without a goroutine, a context and a
// dozen allocations for each call: a third of the cost, so that one core can ask for several times
// of what another one answers. Streams are entries in a map; frames are written and read by hand.

// stream is one call in flight.
type stream struct {
	n      int64
	due    time.Time
	answer []byte
	// How often it has been sent again.
	repeats int
}

// link is one connection. Its mutex guards everything but the reader and the decoder.
type link struct {
	run     *h2Run
	place   int
	conn    net.Conn
	reader  *bufio.Reader
	decoder *hpack.Decoder
	// Of the headers being decoded.
	status   string
	details  string
	pushback string

	mutex      sync.Mutex
	out        []byte
	spare      []byte
	wake       chan struct{}
	gone       chan struct{}
	block      bytes.Buffer
	encoder    *hpack.Encoder
	streams    map[uint32]stream
	streamsMax int
	nextID     uint32
	window     int64
	received   int64
	ended      bool
	seen       tally
}

// openLink connects and reads the server's settings.
func openLink(run *h2Run, place int) (*link, error) {
	conn, err := net.DialTimeout("tcp", run.wanted.Target, greetTimeout)
	if err != nil {
		return nil, err
	}
	one := &link{
		run: run, place: place, conn: conn, reader: bufio.NewReaderSize(conn, 64<<10),
		wake: make(chan struct{}, 1), gone: make(chan struct{}), streams: map[uint32]stream{},
		streamsMax: run.wanted.InFlight, nextID: 1, window: windowAtFirst,
	}
	one.encoder = hpack.NewEncoder(&one.block)
	one.decoder = hpack.NewDecoder(4096, func(found hpack.HeaderField) {
		switch found.Name {
		case "grpc-status":
			one.status = found.Value
		case "grpc-status-details-bin":
			one.details = found.Value
		case "grpc-retry-pushback-ms":
			one.pushback = found.Value
		}
	})
	one.out = append(one.out, preface...)
	one.out = appendFrame(one.out, frameSettings, 0, 0, nil)
	one.out = appendFrame(one.out, frameWindow, 0, 0, binary.BigEndian.AppendUint32(nil, windowGiven))
	if err := one.greet(); err != nil {
		conn.Close()
		return nil, err
	}
	return one, nil
}

// greet sends the preface and waits for the server's settings.
func (one *link) greet() error {
	if err := one.conn.SetDeadline(time.Now().Add(greetTimeout)); err != nil {
		return err
	}
	if _, err := one.conn.Write(one.out); err != nil {
		return err
	}
	one.out = one.out[:0]
	for settled := false; !settled; {
		kind, err := one.readFrame()
		if err != nil {
			return err
		}
		settled = kind == frameSettings
	}
	return one.conn.SetDeadline(time.Time{})
}

func (one *link) wakeWriter() {
	select {
	case one.wake <- struct{}{}:
	default:
	}
}

// write sends what has gathered, whenever woken; a server that does not read holds up no other link.
func (one *link) write() {
	for {
		select {
		case <-one.wake:
		case <-one.gone:
			return
		}
		one.mutex.Lock()
		out := one.out
		one.out, one.spare = one.spare[:0], nil
		one.mutex.Unlock()
		if len(out) > 0 {
			if _, err := one.conn.Write(out); err != nil {
				// The reader notices too, and ends the calls in flight.
				one.conn.Close()
			}
		}
		one.mutex.Lock()
		one.spare = out
		one.mutex.Unlock()
	}
}

// send starts a call; false if there is no room for it now.
func (one *link) send(call stream) bool {
	one.mutex.Lock()
	defer one.mutex.Unlock()
	return one.sendLocked(call)
}

func (one *link) sendLocked(call stream) bool {
	if one.ended || len(one.streams) >= one.streamsMax || one.window < windowLeast {
		return false
	}
	who, message, err := one.run.what.request(call.n)
	if err != nil {
		one.seen.err = err
		one.run.calls.Done()
		return true
	}
	one.block.Reset()
	for _, field := range one.run.head {
		one.field(field.Name, field.Value)
	}
	if who.authorization != "" {
		one.field("authorization", who.authorization)
	}
	if one.run.what.sku != "" {
		one.field(skuMetadata, one.run.what.sku)
	}
	id := one.nextID
	one.nextID += 2
	one.out = appendFrame(one.out, frameHeaders, flagEndHeaders, id, one.block.Bytes())
	size := messageHead + len(message)
	one.out = append(one.out, byte(size>>16), byte(size>>8), byte(size), frameData, flagEndStream)
	one.out = binary.BigEndian.AppendUint32(one.out, id)
	one.out = append(one.out, 0)
	one.out = binary.BigEndian.AppendUint32(one.out, uint32(len(message)))
	one.out = append(one.out, message...)
	one.window -= int64(size)
	one.streams[id] = call
	return true
}

func (one *link) field(name, value string) {
	_ = one.encoder.WriteField(hpack.HeaderField{Name: name, Value: value}) // to memory: never fails
}

// end takes a call off the connection; in a closed loop the next one follows.
func (one *link) end(id uint32, code codes.Code) {
	call, open := one.streams[id]
	if !open {
		return
	}
	delete(one.streams, id)
	got := answer{code: code}
	if time.Since(call.due) > one.run.timeout {
		// Counted from when it was due: a caller has waited since then, wherever the call was.
		got.code = codes.DeadlineExceeded
	}
	switch {
	case got.code == codes.OK && len(call.answer) >= messageHead:
		got.outcome = one.run.what.answered(call.n, call.answer[messageHead:])
	case got.code == codes.FailedPrecondition:
		got.outcome = one.run.outcomeOfDetails(one.details)
	case one.run.repeat(call, got.code, one.pushback):
		return
	}
	one.seen.note(got, call.due)
	if one.run.loops {
		one.run.follow(one)
	}
	one.run.calls.Done()
}

// expire gives up calls that were due too long ago, as a caller with a deadline does.
func (one *link) expire(now time.Time) {
	one.mutex.Lock()
	defer one.mutex.Unlock()
	for id, call := range one.streams {
		if now.Sub(call.due) > one.run.timeout {
			cancel := binary.BigEndian.AppendUint32(nil, resetCancel)
			one.out = appendFrame(one.out, frameReset, 0, id, cancel)
			one.end(id, codes.DeadlineExceeded)
		}
	}
	one.wakeWriter()
}

// retire takes no more calls; another connection takes its place. The mutex is held.
func (one *link) retire() {
	if !one.ended {
		one.ended = true
		go one.run.replace(one)
	}
}

// read takes frames until the connection ends.
func (one *link) read() {
	var err error
	for err == nil {
		_, err = one.readFrame()
	}
	one.mutex.Lock()
	defer one.mutex.Unlock()
	one.retire()
	if errors.Is(err, errUnhandled) {
		one.seen.err = err
	}
	for id := range one.streams {
		one.end(id, codes.Unavailable)
	}
	close(one.gone)
}

func (one *link) readFrame() (byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(one.reader, head[:]); err != nil {
		return 0, err
	}
	size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	payload, err := one.reader.Peek(size)
	if err != nil {
		return 0, err
	}
	kind, flags := head[3], head[4]
	id := binary.BigEndian.Uint32(head[5:]) & 0x7fffffff
	one.mutex.Lock()
	err = one.handle(kind, flags, id, payload)
	one.mutex.Unlock()
	if err != nil {
		return 0, err
	}
	if _, err := one.reader.Discard(size); err != nil {
		return 0, err
	}
	if one.reader.Buffered() == 0 {
		one.wakeWriter()
	}
	return kind, nil
}

func statusOf(text string) codes.Code {
	code, err := strconv.Atoi(text)
	if err != nil || code < 0 || code > int(codes.Unauthenticated) {
		return codes.Unknown
	}
	return codes.Code(code)
}
