package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	reserved = 1
	soldOut  = 2
	// How long the sold-out flag is believed before Redis is asked again.
	flagLife = time.Second
	// Outbox entries at which attempts are refused.
	backlogMax = "100000000"
)

//go:embed reserve.lua
var reserveText string

var errRedis = errors.New("redis does not answer")

// store asks Redis, one script an attempt.
type store struct {
	client  rueidis.Client
	reserve *rueidis.Lua
	// sku → until when it is known to be sold out, in Unix nanoseconds.
	soldOut sync.Map
	batch   string
	numbers atomic.Int64
}

func openStore(ctx context.Context, address string) (*store, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{address}, DisableCache: true,
		// Commands gather for so long before they are written: fewer, larger writes.
		MaxFlushDelay: 100 * time.Microsecond,
	})
	if err != nil {
		return nil, err
	}
	var salt [10]byte
	_, _ = rand.Read(salt[:]) // never fails
	found := &store{
		client:  client,
		reserve: rueidis.NewLuaScript(reserveText),
		batch:   base32.StdEncoding.EncodeToString(salt[:]),
	}
	go found.watch(ctx)
	return found, nil
}

// watch notes each sale whose last unit goes, wherever it was sold.
func (all *store) watch(ctx context.Context) {
	for ctx.Err() == nil {
		subscribe := all.client.B().Subscribe().Channel("rival:notices").Build()
		_ = all.client.Receive(ctx, subscribe, func(notice rueidis.PubSubMessage) {
			all.noteSoldOut(notice.Message)
		})
		time.Sleep(100 * time.Millisecond)
	}
}

func (all *store) noteSoldOut(sku string) {
	flag, _ := all.soldOut.LoadOrStore(sku, &atomic.Int64{})
	flag.(*atomic.Int64).Store(time.Now().Add(flagLife).UnixNano())
}

// isSoldOut is a look into this process's memory.
func (all *store) isSoldOut(sku string, now time.Time) bool {
	flag, found := all.soldOut.Load(sku)
	return found && flag.(*atomic.Int64).Load() > now.UnixNano()
}

func (all *store) nextNumber() string {
	number := strconv.FormatInt(all.numbers.Add(1), 10)
	return all.batch + "0000000000"[:10-len(number)] + number
}

// decide runs the script: an outcome and an order number.
func (all *store) decide(
	ctx context.Context, sku, user, request string, quantity int64,
) (int64, string, error) {
	key := "{" + sku + "}"
	reply, err := all.reserve.Exec(ctx, all.client,
		[]string{"rival:sale:" + key, "rival:stock:" + key, "rival:users:" + key, "rival:queue:" + key},
		[]string{sku, backlogMax, user, request, strconv.FormatInt(quantity, 10), all.nextNumber()},
	).ToArray()
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", errRedis, err)
	}
	if len(reply) != 2 {
		return 0, "", errRedis
	}
	code, codeErr := reply[0].AsInt64()
	number, numberErr := reply[1].ToString()
	if codeErr != nil || numberErr != nil || code < 0 {
		return 0, "", errRedis
	}
	if code == soldOut {
		all.noteSoldOut(sku)
	}
	return code, number, nil
}
