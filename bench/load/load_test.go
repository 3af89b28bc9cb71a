package main

import (
	"bufio"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Buyers of a block call in turn, each two or three times, before the next block's.
func TestBuyersCallInBlocks(t *testing.T) {
	wanted := command{First: 10, Buyers: 4, Block: 2, Attempts: 2.5}
	attempts := map[int]int{}
	for n, expected := range []int{10, 11, 10, 11, 10, 12, 13, 12, 13, 12} {
		found := buyerOf(int64(n), wanted)
		attempts[found]++
		if found != expected {
			t.Errorf("call %d is made by %d, not %d", n, found, expected)
		}
	}
	if len(attempts) != wanted.Buyers {
		t.Errorf("%d buyers called", len(attempts))
	}
}

// Without blocks every buyer calls once before any of them calls twice.
func TestBuyersCallInTurn(t *testing.T) {
	wanted := command{First: 3, Buyers: 2}
	for n, expected := range []int{3, 4, 3, 4} {
		if found := buyerOf(int64(n), wanted); found != expected {
			t.Errorf("call %d is made by %d, not %d", n, found, expected)
		}
	}
}

// A call that no worker had time to send is late from the moment at which it was due.
func TestScheduleCountsFromWhenACallIsDue(t *testing.T) {
	start := time.Now().Add(-time.Second)
	plan := &schedule{total: 2, start: start, interval: 100 * time.Millisecond}
	for n := range int64(2) {
		number, due, more := plan.take()
		if !more || number != n || !due.Equal(start.Add(time.Duration(n)*plan.interval)) {
			t.Errorf("call %d: %d, due %v, %v", n, number, due.Sub(start), more)
		}
	}
	if _, _, more := plan.take(); more {
		t.Error("a third call was sent")
	}
}

// What was encoded by hand is read back by hand.
func TestFieldsOfMessages(t *testing.T) {
	request := withRequestID(purchaseWithoutID("sku", "token"), "id")
	for number, expected := range map[int]string{1: "sku", 3: "token", 4: "id"} {
		if _, text := field(request, protowire.Number(number)); string(text) != expected {
			t.Errorf("field %d is %q", number, text)
		}
	}
	if quantity, _ := field(request, 2); quantity != 1 {
		t.Errorf("quantity is %d", quantity)
	}
	if _, text := field([]byte{0xff}, 1); text != nil {
		t.Errorf("a malformed message has a field: %q", text)
	}
}

// Answers over HTTP/1.1 are read to their end, so that the next one starts in the right place.
func TestAnswersOverHTTPAreReadWhole(t *testing.T) {
	wire := "HTTP/1.1 200 OK\r\nContent-Length: 52\r\nx-other: 1\r\n\r\n" +
		`{"outcome":"PURCHASE_OUTCOME_RESERVED","orderNo":""}` +
		"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nConnection: close\r\n\r\n"
	one := &httpSender{answers: bufio.NewReader(strings.NewReader(wire))}
	status, closes, err := one.read()
	if status != 200 || closes || err != nil {
		t.Fatalf("%d, %v, %v", status, closes, err)
	}
	if outcome := outcomeOf(string(textAt(one.answer, outcomeKey))); outcome != reservedOutcome {
		t.Errorf("outcome %d of %s", outcome, one.answer)
	}
	if status, closes, err = one.read(); status != 429 || !closes || err != nil {
		t.Fatalf("%d, %v, %v", status, closes, err)
	}
}

// A refusal by status tells its outcome in the reason of its details.
func TestOutcomeOfAStatus(t *testing.T) {
	text := func(number protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
	}
	status := text(3, text(2, text(1, []byte("SOLD_OUT"))))
	if outcome := outcomeOfStatus(status); outcomeNames[outcome] != "SOLD_OUT" {
		t.Errorf("outcome %d", outcome)
	}
}
