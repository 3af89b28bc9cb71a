package main

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// shop makes the checks; the doors translate.
type shop struct {
	identities *identities
	all        *bucket
	users      *buckets
	tokens     *tokens
	store      *store
	counters   counters
}

// admit charges the buckets and tells who calls.
func (one *shop) admit(authorization string, now time.Time) (string, error) {
	if !one.all.take(now) {
		return "", status.Error(codes.ResourceExhausted, "too many calls")
	}
	user := one.identities.userOf(authorization, now)
	if user == "" {
		return "", status.Error(codes.Unauthenticated, "who are you?")
	}
	if !one.users.take(user, now) {
		return "", status.Error(codes.ResourceExhausted, "too many calls")
	}
	return user, nil
}

func (one *shop) issue(authorization, sku string) (string, time.Time, error) {
	now := time.Now()
	user, err := one.admit(authorization, now)
	if err != nil {
		return "", time.Time{}, err
	}
	token, expires := one.tokens.mint(user, sku, now)
	return token, expires, nil
}

type attempt struct {
	sku      string
	quantity int64
	token    []byte
	request  string
}

func (one *shop) purchase(
	ctx context.Context, authorization string, wanted attempt,
) (int64, string, error) {
	now := time.Now()
	if wanted.request == "" || len(wanted.request) > 64 || wanted.quantity < 1 {
		return 0, "", status.Error(codes.InvalidArgument, "request_id or quantity is malformed")
	}
	if one.store.isSoldOut(wanted.sku, now) {
		one.counters.count(soldOut, now)
		return soldOut, "", nil
	}
	user, err := one.admit(authorization, now)
	if err != nil {
		return 0, "", err
	}
	if !one.tokens.valid(wanted.token, user, wanted.sku, now) {
		return 0, "", status.Error(codes.PermissionDenied, "the purchase token is not valid")
	}
	outcome, number, err := one.store.decide(
		ctx, wanted.sku, user, wanted.request, wanted.quantity)
	if err != nil {
		return 0, "", status.Error(codes.Unavailable, err.Error())
	}
	one.counters.count(outcome, now)
	return outcome, number, nil
}
