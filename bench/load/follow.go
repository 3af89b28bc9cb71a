package main

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// A buyer who waits for an order polls after this, and each time a quarter later than the last time,
// but not less than ten times a second: a buyer's bucket has room for twenty calls at once and ten a
// second. So what is measured is up to a quarter too long.
const (
	pollFirst  = 4 * time.Millisecond
	pollFactor = 1.25
	pollSlowly = 100 * time.Millisecond
	followMax  = 30 * time.Second
)

// Where a GetOrder or PayOrder answer has the order, and that its amount.
const (
	orderField  = 1
	amountField = 6
)

// followSender buys, polls until the order is there, and may pay it. Its latency counts from the
// moment at which the purchase was accepted.
type followSender struct {
	grpcSender
	pay bool
}

func (one *followSender) send(n int64, due time.Time) (answer, error) {
	who, _, err := one.what.request(n)
	if err != nil {
		return answer{}, err
	}
	bought, err := one.grpcSender.send(n, due)
	if err != nil || bought.code != codes.OK || bought.outcome != reservedOutcome {
		return bought, err
	}
	bought.since = time.Now()
	order, code := one.awaitOrder(who, bought.since)
	if code == codes.OK && one.pay {
		_, err = one.invoke(who, service+"PayOrder", payRequest(who.poll, order))
		code = status.Code(err)
	}
	bought.code = code
	return bought, nil
}

// awaitOrder polls until the order can be seen.
func (one *followSender) awaitOrder(who *buyer, since time.Time) ([]byte, codes.Code) {
	pause := pollFirst
	for {
		time.Sleep(pause)
		response, err := one.invoke(who, service+"GetOrder", who.poll)
		code := status.Code(err)
		if code == codes.OK {
			_, order := field(response, orderField)
			return order, code
		}
		if code != codes.NotFound && code != codes.ResourceExhausted || time.Since(since) > followMax {
			return nil, code
		}
		pause = min(time.Duration(float64(pause)*pollFactor), pollSlowly)
	}
}

// paySender reads an order that was bought before, and pays it; OK if both were answered OK.
type paySender struct{ grpcSender }

func (one *paySender) send(n int64, _ time.Time) (answer, error) {
	who, request, err := one.what.request(n)
	if err != nil {
		return answer{}, err
	}
	response, err := one.invoke(who, service+"GetOrder", request)
	if err == nil {
		_, order := field(response, orderField)
		_, err = one.invoke(who, service+"PayOrder", payRequest(request, order))
	}
	return answer{code: status.Code(err)}, nil
}

// payRequest pays what the order costs; `named` names the order in its first field.
func payRequest(named, order []byte) []byte {
	_, number := field(named, 1)
	_, amount := field(order, amountField)
	request := append([]byte(nil), named...)
	request = protowire.AppendTag(request, 2, protowire.BytesType)
	request = protowire.AppendString(request, "payment-"+string(number))
	request = protowire.AppendTag(request, 3, protowire.BytesType)
	return protowire.AppendBytes(request, amount)
}
