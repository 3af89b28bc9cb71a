package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/maphash"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Locks and maps are spread over this many shards.
const shards = 64

var seed = maphash.MakeSeed()

func shardOf(key string) uint64 { return maphash.String(seed, key) % shards }

type remembered struct {
	user    string
	expires time.Time
}

// identities verifies a token once and remembers it.
type identities struct {
	key    []byte
	parser *jwt.Parser
	known  [shards]struct {
		sync.RWMutex
		users map[string]remembered
	}
}

func newIdentities(path, issuer, audience string) (*identities, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var document struct{ Keys []struct{ K string } }
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if len(document.Keys) != 1 {
		return nil, errors.New("the JWKS must hold one key")
	}
	key, err := base64.RawURLEncoding.DecodeString(document.Keys[0].K)
	if err != nil {
		return nil, err
	}
	found := &identities{key: key, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer(issuer),
		jwt.WithAudience(audience), jwt.WithExpirationRequired())}
	for i := range found.known {
		found.known[i].users = map[string]remembered{}
	}
	return found, nil
}

// userOf is the subject of an `authorization` header, or "".
func (all *identities) userOf(authorization string, now time.Time) string {
	shard := &all.known[shardOf(authorization)]
	shard.RLock()
	known, found := shard.users[authorization]
	shard.RUnlock()
	if !found {
		token, bearer := strings.CutPrefix(authorization, "Bearer ")
		if !bearer {
			return ""
		}
		var claims jwt.RegisteredClaims
		_, err := all.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) {
			return all.key, nil
		})
		if err != nil || claims.Subject == "" {
			return ""
		}
		known = remembered{claims.Subject, claims.ExpiresAt.Time}
		shard.Lock()
		shard.users[authorization] = known
		shard.Unlock()
	}
	if !known.expires.After(now) {
		return ""
	}
	return known.user
}

// bucket is the moment at which it will be full again (GCRA).
type bucket struct {
	sync.Mutex
	interval time.Duration
	span     time.Duration
	fullAt   time.Time
}

func newBucket(rate, burst float64) *bucket {
	interval := time.Duration(float64(time.Second) / rate)
	return &bucket{interval: interval, span: time.Duration(burst * float64(interval))}
}

func (one *bucket) take(now time.Time) bool {
	one.Lock()
	defer one.Unlock()
	next, passes := taken(one.fullAt, now, one.interval, one.span)
	one.fullAt = next
	return passes
}

func taken(fullAt, now time.Time, interval, span time.Duration) (time.Time, bool) {
	next := fullAt
	if next.Before(now) {
		next = now
	}
	next = next.Add(interval)
	if next.Sub(now) > span {
		return fullAt, false
	}
	return next, true
}

// buckets is a bucket for each key.
type buckets struct {
	interval time.Duration
	span     time.Duration
	shards   [shards]struct {
		sync.Mutex
		fullAt map[string]time.Time
	}
}

func newBuckets(rate, burst float64) *buckets {
	one := newBucket(rate, burst)
	found := &buckets{interval: one.interval, span: one.span}
	for i := range found.shards {
		found.shards[i].fullAt = map[string]time.Time{}
	}
	return found
}

func (all *buckets) take(key string, now time.Time) bool {
	shard := &all.shards[shardOf(key)]
	shard.Lock()
	defer shard.Unlock()
	next, passes := taken(shard.fullAt[key], now, all.interval, all.span)
	shard.fullAt[key] = next
	return passes
}
