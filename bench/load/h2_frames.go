package main

import (
	"encoding/binary"
	"errors"

	"google.golang.org/grpc/codes"
)

const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingTableSize  = 1
	settingStreamsMax = 3

	resetRefused = 7
	resetCancel  = 8
	resetCalm    = 11

	frameHead     = 9
	windowAtFirst = 65535
	// What the server may send ahead, on a connection; renewed when half of it is used.
	windowGiven = 1 << 30
	// Enough of the server's window for any call of ours.
	windowLeast = 4096
	// Of a gRPC message: compressed or not, and its length.
	messageHead = 5
)

var (
	preface      = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	errUnhandled = errors.New("the server sent an HTTP/2 frame that this generator does not read")
)

func appendFrame(to []byte, kind, flags byte, id uint32, payload []byte) []byte {
	size := len(payload)
	to = append(to, byte(size>>16), byte(size>>8), byte(size), kind, flags)
	to = binary.BigEndian.AppendUint32(to, id)
	return append(to, payload...)
}

// handle takes one frame in; the mutex is held.
func (one *link) handle(kind, flags byte, id uint32, payload []byte) error {
	switch kind {
	case frameData:
		one.takeData(flags, id, payload)
	case frameHeaders:
		return one.takeHeaders(flags, id, payload)
	case frameReset:
		if len(payload) == 4 {
			one.end(id, codeOfReset(binary.BigEndian.Uint32(payload)))
		}
	case frameSettings:
		if flags&flagAck == 0 {
			one.takeSettings(payload)
		}
	case framePing:
		if flags&flagAck == 0 {
			one.out = appendFrame(one.out, framePing, flagAck, 0, payload)
		}
	case frameGoAway:
		// What is under way is still answered.
		one.retire()
	case frameWindow:
		if id == 0 && len(payload) == 4 {
			one.window += int64(binary.BigEndian.Uint32(payload) & 0x7fffffff)
		}
	case frameContinuation:
		return errUnhandled
	}
	return nil
}

func (one *link) takeData(flags byte, id uint32, payload []byte) {
	one.received += int64(len(payload))
	if one.received > windowGiven/2 {
		more := binary.BigEndian.AppendUint32(nil, uint32(one.received))
		one.out = appendFrame(one.out, frameWindow, 0, 0, more)
		one.received = 0
	}
	if call, open := one.streams[id]; open {
		call.answer = append(call.answer, payload...)
		one.streams[id] = call
	}
	if flags&flagEndStream != 0 {
		// gRPC ends with headers.
		one.end(id, codes.Internal)
	}
}

func (one *link) takeHeaders(flags byte, id uint32, payload []byte) error {
	if flags&flagEndHeaders == 0 || flags&(flagPadded|flagPriority) != 0 {
		return errUnhandled
	}
	one.status, one.details, one.pushback = "", "", ""
	if _, err := one.decoder.Write(payload); err != nil {
		return err
	}
	if err := one.decoder.Close(); err != nil {
		return err
	}
	if flags&flagEndStream != 0 {
		one.end(id, statusOf(one.status))
	}
	return nil
}

func (one *link) takeSettings(payload []byte) {
	for ; len(payload) >= 6; payload = payload[6:] {
		value := binary.BigEndian.Uint32(payload[2:])
		switch binary.BigEndian.Uint16(payload) {
		case settingTableSize:
			one.encoder.SetMaxDynamicTableSizeLimit(value)
		case settingStreamsMax:
			one.streamsMax = min(one.streamsMax, int(value))
		}
	}
	one.out = appendFrame(one.out, frameSettings, flagAck, 0, nil)
	one.wakeWriter()
}

func codeOfReset(reason uint32) codes.Code {
	switch reason {
	case resetRefused:
		return codes.Unavailable
	case resetCancel:
		return codes.Canceled
	case resetCalm:
		return codes.ResourceExhausted
	}
	return codes.Internal
}
