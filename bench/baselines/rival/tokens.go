package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"sync"
	"time"
)

const macBytes = 16

// tokens makes and checks purchase tokens: expiry · user · 0 · sku · HMAC, in base64url.
type tokens struct {
	ttl time.Duration
	// Keyed MACs, reset and used again.
	macs sync.Pool
}

func newTokens(ttl time.Duration) *tokens {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return &tokens{ttl: ttl, macs: sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}}
}

func (all *tokens) sign(body []byte, to []byte) []byte {
	mac := all.macs.Get().(hash.Hash)
	defer all.macs.Put(mac)
	mac.Reset()
	mac.Write(body)
	var sum [sha256.Size]byte
	return append(to, mac.Sum(sum[:0])[:macBytes]...)
}

func (all *tokens) mint(user, sku string, now time.Time) (string, time.Time) {
	expires := now.Add(all.ttl)
	body := binary.BigEndian.AppendUint64(nil, uint64(expires.UnixMilli()))
	body = append(append(append(body, user...), 0), sku...)
	return base64.RawURLEncoding.EncodeToString(all.sign(body, body)), expires
}

func (all *tokens) valid(token []byte, user, sku string, now time.Time) bool {
	var buffer [512]byte
	if base64.RawURLEncoding.DecodedLen(len(token)) > len(buffer) {
		return false
	}
	size, err := base64.RawURLEncoding.Decode(buffer[:], token)
	if err != nil || size < 8+macBytes {
		return false
	}
	body, signature := buffer[:size-macBytes], buffer[size-macBytes:size]
	var sum [macBytes]byte
	if !hmac.Equal(all.sign(body, sum[:0]), signature) {
		return false
	}
	holder := body[8:]
	return len(holder) == len(user)+1+len(sku) && string(holder[:len(user)]) == user &&
		holder[len(user)] == 0 && string(holder[len(user)+1:]) == sku &&
		binary.BigEndian.Uint64(body) > uint64(now.UnixMilli())
}
