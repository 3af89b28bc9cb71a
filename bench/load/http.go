package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
)

// The gRPC status that an HTTP status stands for, as far as purchases are answered with it.
var codeOfHTTP = map[int]codes.Code{
	http.StatusOK:                  codes.OK,
	http.StatusBadRequest:          codes.InvalidArgument,
	http.StatusUnauthorized:        codes.Unauthenticated,
	http.StatusForbidden:           codes.PermissionDenied,
	http.StatusTooManyRequests:     codes.ResourceExhausted,
	http.StatusServiceUnavailable:  codes.Unavailable,
	http.StatusGatewayTimeout:      codes.DeadlineExceeded,
	http.StatusInternalServerError: codes.Internal,
}

var (
	errNoLength = errors.New("an answer over HTTP does not tell its length")
	outcomeKey  = []byte(`"outcome":`)
	lengthKey   = []byte("content-length:")
	closeLine   = []byte("connection: close")
)

// httpSender is one keep-alive connection. Requests are written by hand, and of answers only what
// counts is read: net/http's client would cost more than the server.
type httpSender struct {
	target  string
	head    []byte
	what    call
	timeout time.Duration
	conn    net.Conn
	answers *bufio.Reader
	out     []byte
	body    []byte
	answer  []byte
}

func newHTTPSender(wanted command, what call, timeout time.Duration) *httpSender {
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nhost: %s\r\nuser-agent: bench-load\r\n"+
		"accept: application/json\r\ncontent-type: application/json\r\nauthorization: ",
		wanted.Path, wanted.Target)
	return &httpSender{target: wanted.Target, head: head, what: what, timeout: timeout}
}

// Close ends the connection.
func (one *httpSender) Close() error {
	if one.conn == nil {
		return nil
	}
	err := one.conn.Close()
	one.conn = nil
	return err
}

func (one *httpSender) send(n int64, due time.Time) (answer, error) {
	who, body, err := one.what.json(one.body[:0], n)
	if err != nil {
		return answer{}, err
	}
	one.body = body
	one.out = append(append(one.out[:0], one.head...), who.authorization...)
	one.out = append(one.out, "\r\ncontent-length: "...)
	one.out = strconv.AppendInt(one.out, int64(len(body)), 10)
	one.out = append(append(one.out, "\r\n\r\n"...), body...)
	status, closes, err := one.exchange(due.Add(one.timeout))
	var late net.Error
	if closes || err != nil {
		one.Close()
	}
	if errors.As(err, &late) && late.Timeout() {
		return answer{code: codes.DeadlineExceeded}, nil
	}
	if err != nil {
		return answer{code: codes.Unavailable, closed: true}, nil
	}
	code, known := codeOfHTTP[status]
	if !known {
		code = codes.Unknown
	}
	outcome := outcomeOf(string(textAt(one.answer, outcomeKey)))
	return answer{code: code, outcome: outcome, closed: closes}, nil
}

// exchange writes the request and reads the answer: its status, and whether it is the last one.
func (one *httpSender) exchange(until time.Time) (int, bool, error) {
	if one.conn == nil {
		conn, err := net.DialTimeout("tcp", one.target, greetTimeout)
		if err != nil {
			return 0, false, err
		}
		one.conn, one.answers = conn, bufio.NewReaderSize(conn, 4096)
	}
	if err := one.conn.SetDeadline(until); err != nil {
		return 0, false, err
	}
	if _, err := one.conn.Write(one.out); err != nil {
		return 0, false, err
	}
	return one.read()
}

func (one *httpSender) read() (int, bool, error) {
	line, err := one.answers.ReadSlice('\n')
	if err != nil {
		return 0, false, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, false, fmt.Errorf("an answer starts with %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, false, err
	}
	length, closes := -1, false
	for {
		line, err = one.answers.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if hasPrefix(line, lengthKey) {
			length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(lengthKey):])))
			if err != nil {
				return 0, false, err
			}
		}
		closes = closes || hasPrefix(line, closeLine)
	}
	if length < 0 {
		return 0, false, errNoLength
	}
	one.answer = append(one.answer[:0], make([]byte, length)...)
	_, err = io.ReadFull(one.answers, one.answer)
	return status, closes, err
}

// hasPrefix ignores case.
func hasPrefix(line, prefix []byte) bool {
	return len(line) >= len(prefix) && bytes.EqualFold(line[:len(prefix)], prefix)
}

// textAt is the string that follows a key in JSON which has no escapes there; else nothing.
func textAt(document, key []byte) []byte {
	_, behind, found := bytes.Cut(document, key)
	if !found {
		return nil
	}
	_, behind, found = bytes.Cut(behind, []byte{'"'})
	if !found {
		return nil
	}
	text, _, _ := bytes.Cut(behind, []byte{'"'})
	return text
}
