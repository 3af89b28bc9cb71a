package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

const (
	service     = "/seckill.v1.GatewayService/"
	skuMetadata = "seckill-sku"
)

// The size of a PurchaseRequest with its token, so that the echo carries as much.
const echoBytes = 190

// Names of PurchaseOutcome, by number; as JSON they have this prefix.
var outcomeNames = [...]string{
	"UNSPECIFIED", "RESERVED", "SOLD_OUT", "ALREADY_PURCHASED", "NOT_STARTED", "ENDED", "PAUSED",
	"LIMIT_EXCEEDED",
}

const reservedOutcome = 1

const outcomePrefix = "PURCHASE_OUTCOME_"

// outcomeOf is the number of an outcome's name, 0 where there is none of this name.
func outcomeOf(name string) uint64 {
	name = strings.TrimPrefix(name, outcomePrefix)
	for outcome, known := range outcomeNames {
		if known == name {
			return uint64(outcome)
		}
	}
	return 0
}

// outcomeOfStatus is the reason in the ErrorInfo of a serialized google.rpc.Status.
func outcomeOfStatus(status []byte) uint64 {
	_, packed := field(status, 3)
	_, info := field(packed, 2)
	_, reason := field(info, 1)
	return outcomeOf(string(reason))
}

// call is one kind of call: what to send for the n-th one, and what its answer means.
type call struct {
	method string
	// Told beside the message, as metadata `seckill-sku`; "" for not at all.
	sku string
	// Who makes it, and the message; an error where this buyer cannot make the call.
	request func(n int64) (*buyer, []byte, error)
	// Appends the message as JSON; nil where there is no such form.
	json func(to []byte, n int64) (*buyer, []byte, error)
	// Takes an answer; the outcome it states, or 0.
	answered func(n int64, response []byte) uint64
}

func noOutcome(int64, []byte) uint64 { return 0 }

// buyerOf is whose turn the n-th call is; see command.Block.
func buyerOf(n int64, wanted command) int {
	block := int64(wanted.Block)
	if block == 0 {
		return wanted.First + int(n%int64(wanted.Buyers))
	}
	turns := int64(float64(block) * wanted.Attempts)
	position := (n/turns)*block + (n%turns)%block
	return wanted.First + int(position%int64(wanted.Buyers))
}

func (load *generator) newCall(wanted command) (call, error) {
	if wanted.Call == "echo" {
		payload := bytes.Repeat([]byte{'x'}, echoBytes)
		return call{
			method:   "/bench.Echo/Echo",
			request:  func(int64) (*buyer, []byte, error) { return anonymous, payload, nil },
			answered: noOutcome,
		}, nil
	}
	if wanted.Buyers < 1 || wanted.First+wanted.Buyers > len(load.buyers) {
		return call{}, fmt.Errorf("there are %d buyers", len(load.buyers))
	}
	whose := func(n int64) *buyer { return load.buyers[buyerOf(n, wanted)] }
	switch wanted.Call {
	case "issue":
		return load.issue(wanted, whose), nil
	case "purchase", "visible", "paid":
		return load.purchase(wanted, whose), nil
	case "poll", "pay":
		return load.poll(whose), nil
	}
	return call{}, fmt.Errorf("no such call: %q", wanted.Call)
}

func (load *generator) issue(wanted command, whose func(int64) *buyer) call {
	request := nameRequest(wanted.Sku)
	return call{
		method:  service + "IssuePurchaseToken",
		request: func(n int64) (*buyer, []byte, error) { return whose(n), request, nil },
		answered: func(n int64, response []byte) uint64 {
			_, token := field(response, 1)
			whose(n).purchase = purchaseWithoutID(wanted.Sku, string(token))
			return 0
		},
	}
}

func (load *generator) purchase(wanted command, whose func(int64) *buyer) call {
	// Request ids of one generator never repeat: each call is an attempt of its own.
	base := load.attempts
	attempt := func(n int64) (*buyer, string, error) {
		one := whose(n)
		if one.purchase == nil {
			return nil, "", fmt.Errorf("no purchase token was issued to the buyer of call %d", n)
		}
		return one, "attempt-" + strconv.FormatInt(base+n, 36), nil
	}
	found := call{
		method: service + "Purchase",
		request: func(n int64) (*buyer, []byte, error) {
			one, id, err := attempt(n)
			if err != nil {
				return nil, nil, err
			}
			return one, withRequestID(one.purchase, id), nil
		},
		json: func(to []byte, n int64) (*buyer, []byte, error) {
			one, id, err := attempt(n)
			if err != nil {
				return nil, nil, err
			}
			_, token := field(one.purchase, purchaseTokenField)
			to = append(append(to, `{"quantity":1,"purchaseToken":"`...), token...)
			to = append(append(to, `","requestId":"`...), id...)
			return one, append(to, `"}`...), nil
		},
		answered: func(n int64, response []byte) uint64 {
			outcome, _ := field(response, 1)
			if outcome == reservedOutcome {
				_, number := field(response, 2)
				whose(n).poll = nameRequest(string(number))
			}
			return outcome
		},
	}
	if wanted.TellSku {
		found.sku = wanted.Sku
	}
	return found
}

func (load *generator) poll(whose func(int64) *buyer) call {
	return call{
		method: service + "GetOrder",
		request: func(n int64) (*buyer, []byte, error) {
			one := whose(n)
			if one.poll == nil {
				return nil, nil, fmt.Errorf("the buyer of call %d has no order", n)
			}
			return one, one.poll, nil
		},
		answered: noOutcome,
	}
}
