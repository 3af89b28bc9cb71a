package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
)

const service = "/seckill.v1.GatewayService/"

// The size of a PurchaseRequest with its token, so that the echo carries as much.
const echoBytes = 190

// Names of PurchaseOutcome, by number.
var outcomeNames = [...]string{
	"UNSPECIFIED", "RESERVED", "SOLD_OUT", "ALREADY_PURCHASED", "NOT_STARTED", "ENDED", "PAUSED",
	"LIMIT_EXCEEDED",
}

// call is one kind of call: what to send for the n-th one, and what its answer means.
type call struct {
	method string
	// The context and the request; an error where this buyer cannot make the call.
	request func(n int64) (context.Context, []byte, error)
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
	turns := int64(float64(block) * wanted.Presses)
	position := (n/turns)*block + (n%turns)%block
	return wanted.First + int(position%int64(wanted.Buyers))
}

func (load *generator) newCall(wanted command) (call, error) {
	if wanted.Call == "echo" {
		payload := bytes.Repeat([]byte{'x'}, echoBytes)
		ctx := context.Background()
		return call{
			method:   "/bench.Echo/Echo",
			request:  func(int64) (context.Context, []byte, error) { return ctx, payload, nil },
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
	case "purchase":
		return load.purchase(whose), nil
	case "poll":
		return load.poll(whose), nil
	}
	return call{}, fmt.Errorf("no such call: %q", wanted.Call)
}

func (load *generator) issue(wanted command, whose func(int64) *buyer) call {
	request := issueRequest(wanted.Sku)
	return call{
		method:  service + "IssuePurchaseToken",
		request: func(n int64) (context.Context, []byte, error) { return whose(n).ctx, request, nil },
		answered: func(n int64, response []byte) uint64 {
			_, token := field(response, 1)
			whose(n).press = pressWithoutID(wanted.Sku, string(token))
			return 0
		},
	}
}

func (load *generator) purchase(whose func(int64) *buyer) call {
	// Ids of one generator never repeat: each press is an attempt of its own.
	base := load.pressed
	return call{
		method: service + "Purchase",
		request: func(n int64) (context.Context, []byte, error) {
			one := whose(n)
			if one.press == nil {
				return nil, nil, fmt.Errorf("no purchase token was issued to the buyer of call %d", n)
			}
			id := "press-" + strconv.FormatInt(base+n, 36)
			return one.ctx, withRequestID(one.press, id), nil
		},
		answered: func(n int64, response []byte) uint64 {
			outcome, _ := field(response, 1)
			if outcome == 1 {
				_, number := field(response, 2)
				whose(n).poll = issueRequest(string(number))
			}
			return outcome
		},
	}
}

func (load *generator) poll(whose func(int64) *buyer) call {
	return call{
		method: service + "GetOrder",
		request: func(n int64) (context.Context, []byte, error) {
			one := whose(n)
			if one.poll == nil {
				return nil, nil, fmt.Errorf("the buyer of call %d has no order", n)
			}
			return one.ctx, one.poll, nil
		},
		answered: noOutcome,
	}
}
