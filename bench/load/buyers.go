package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// Identities outlive any run.
const identityTTL = 2 * time.Hour

// buyer is one user with an identity and, for one sale, a purchase token.
type buyer struct {
	// Metadata `authorization`, and a context that carries it.
	authorization string
	ctx           context.Context
	// PurchaseRequest without its request_id; nil before a token was issued.
	purchase []byte
	// GetOrderRequest for the order bought last; nil before.
	poll []byte
}

// anonymous calls without an identity.
var anonymous = &buyer{ctx: context.Background()}

// The development issuer's one symmetric key, and its id.
func symmetricKey(path string) ([]byte, string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	var document struct {
		Keys []struct{ Kid, K string }
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, "", err
	}
	if len(document.Keys) != 1 {
		return nil, "", errors.New("the JWKS must hold one key")
	}
	key, err := base64.RawURLEncoding.DecodeString(document.Keys[0].K)
	return key, document.Keys[0].Kid, err
}

// mint makes buyers, after those that are there.
func (load *generator) mint(wanted command) error {
	key, keyID, err := symmetricKey(wanted.Jwks)
	if err != nil {
		return err
	}
	now := time.Now()
	for range wanted.Count {
		user := fmt.Sprintf("%s-%07d", wanted.Prefix, len(load.buyers))
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"iss": wanted.Issuer,
			"aud": wanted.Audience,
			"sub": user,
			"iat": now.Unix(),
			"exp": now.Add(identityTTL).Unix(),
		})
		token.Header["kid"] = keyID
		signed, err := token.SignedString(key)
		if err != nil {
			return err
		}
		authorization := "Bearer " + signed
		ctx := metadata.NewOutgoingContext(
			context.Background(), metadata.Pairs("authorization", authorization))
		load.buyers = append(load.buyers, &buyer{authorization: authorization, ctx: ctx})
	}
	return nil
}

// The messages of gateway.proto, by hand: the generator must cost less than what it measures.

// Where a PurchaseRequest has its token.
const purchaseTokenField = 3

// nameRequest is a message whose first field names a sku or an order.
func nameRequest(name string) []byte {
	request := protowire.AppendTag(nil, 1, protowire.BytesType)
	return protowire.AppendString(request, name)
}

func purchaseWithoutID(sku string, token string) []byte {
	request := nameRequest(sku)
	request = protowire.AppendTag(request, 2, protowire.VarintType)
	request = protowire.AppendVarint(request, 1)
	request = protowire.AppendTag(request, purchaseTokenField, protowire.BytesType)
	return protowire.AppendString(request, token)
}

func withRequestID(purchase []byte, id string) []byte {
	request := make([]byte, len(purchase), len(purchase)+len(id)+2)
	copy(request, purchase)
	request = protowire.AppendTag(request, 4, protowire.BytesType)
	return protowire.AppendString(request, id)
}

// field is the last value of one field of a message: a number, or bytes.
func field(message []byte, wanted protowire.Number) (uint64, []byte) {
	var number uint64
	var text []byte
	for len(message) > 0 {
		found, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return 0, nil
		}
		message = message[size:]
		switch {
		case found == wanted && kind == protowire.VarintType:
			number, size = protowire.ConsumeVarint(message)
		case found == wanted && kind == protowire.BytesType:
			text, size = protowire.ConsumeBytes(message)
		default:
			size = protowire.ConsumeFieldValue(found, kind, message)
		}
		if size < 0 {
			return 0, nil
		}
		message = message[size:]
	}
	return number, text
}
