package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// rawCodec hands serialized messages over: the few fields are read by hand below, which is faster
// than generated code.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

type unary func(*shop, context.Context, string, []byte) ([]byte, error)

func method(name string, answer unary) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(
		server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
	) (any, error) {
		var request []byte
		if err := decode(&request); err != nil {
			return nil, err
		}
		authorization := ""
		if found := metadata.ValueFromIncomingContext(ctx, "authorization"); len(found) > 0 {
			authorization = found[0]
		}
		response, err := answer(server.(*shop), ctx, authorization, request)
		return &response, err
	}}
}

var gatewayService = grpc.ServiceDesc{
	ServiceName: "seckill.v1.GatewayService",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		method("IssuePurchaseToken", issueOverGrpc),
		method("Purchase", purchaseOverGrpc),
	},
}

func issueOverGrpc(one *shop, _ context.Context, authorization string, request []byte) ([]byte, error) {
	wanted, valid := parseAttempt(request)
	if !valid {
		return nil, status.Error(codes.InvalidArgument, "the request is malformed")
	}
	token, expires, err := one.issue(authorization, wanted.sku)
	if err != nil {
		return nil, err
	}
	when := protowire.AppendTag(nil, 1, protowire.VarintType)
	when = protowire.AppendVarint(when, uint64(expires.Unix()))
	response := protowire.AppendTag(nil, 1, protowire.BytesType)
	response = protowire.AppendString(response, token)
	response = protowire.AppendTag(response, 2, protowire.BytesType)
	return protowire.AppendBytes(response, when), nil
}

func purchaseOverGrpc(
	one *shop, ctx context.Context, authorization string, request []byte,
) ([]byte, error) {
	wanted, valid := parseAttempt(request)
	if !valid {
		return nil, status.Error(codes.InvalidArgument, "the request is malformed")
	}
	outcome, number, err := one.purchase(ctx, authorization, wanted)
	if err != nil {
		return nil, err
	}
	response := protowire.AppendTag(make([]byte, 0, 32), 1, protowire.VarintType)
	response = protowire.AppendVarint(response, uint64(outcome))
	if number != "" {
		response = protowire.AppendTag(response, 2, protowire.BytesType)
		response = protowire.AppendString(response, number)
	}
	return response, nil
}

func parseAttempt(message []byte) (attempt, bool) {
	found := attempt{quantity: 1}
	for len(message) > 0 {
		field, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return found, false
		}
		message = message[size:]
		var text []byte
		switch kind {
		case protowire.BytesType:
			text, size = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			var number uint64
			number, size = protowire.ConsumeVarint(message)
			if field == 2 && number > 0 {
				found.quantity = int64(number)
			}
		default:
			size = protowire.ConsumeFieldValue(field, kind, message)
		}
		if size < 0 {
			return found, false
		}
		message = message[size:]
		switch field {
		case 1:
			found.sku = string(text)
		case 3:
			found.token = text
		case 4:
			found.request = string(text)
		}
	}
	return found, found.sku != ""
}
