// Command bench-rival is the gateway that a good engineer would write in Go: one process, grpc-go
// and net/http, rueidis with its automatic pipelining, and the checks that the mesh's gateway
// makes, in the same order: the sold-out flag, the buckets, the identity (verified once,
// remembered), the purchase token. One EVALSHA an attempt decides and writes the outbox entry.
//
// What the mesh has and this has not: a relay (its outbox is never read), tombstones, replicas that
// agree, draining, and refusals that are safe for winners who repeat their request after the sale
// is sold out: its flag refuses them too.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
)

func serve() error {
	listen := flag.String("listen", "127.0.0.1:0", "address of the gRPC door")
	httpListen := flag.String("http", "", "address of the HTTP door; empty: none")
	redisAddress := flag.String("redis", "127.0.0.1:6379", "address of Redis")
	jwks := flag.String("jwks", "", "JWKS file with one symmetric key")
	issuer := flag.String("issuer", "", "who must have issued an identity")
	audience := flag.String("audience", "seckill", "for whom an identity must be")
	tokenTTL := flag.Duration("token-ttl", 10*time.Second, "life of a purchase token")
	rate := flag.Float64("rate-user", 10, "calls a second of one user")
	burst := flag.Float64("burst-user", 20, "calls that a user may make at once")
	flag.Parse()

	// Half a million holds and identities live on the heap: the default would walk over them for
	// ever.
	debug.SetGCPercent(400)
	identities, err := newIdentities(*jwks, *issuer, *audience)
	if err != nil {
		return err
	}
	store, err := openStore(context.Background(), *redisAddress)
	if err != nil {
		return err
	}
	shop := &shop{
		identities: identities,
		all:        newBucket(10_000_000, 10_000_000),
		users:      newBuckets(*rate, *burst),
		tokens:     newTokens(*tokenTTL),
		store:      store,
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	if *httpListen != "" {
		door := &http.Server{Addr: *httpListen, Handler: shop.routes(), ReadTimeout: 5 * time.Second}
		go func() {
			fmt.Fprintln(os.Stderr, "bench-rival:", door.ListenAndServe())
			os.Exit(1)
		}()
	}
	server := grpc.NewServer(
		grpc.ForceServerCodec(rawCodec{}), grpc.NumStreamWorkers(64),
		grpc.MaxConcurrentStreams(256))
	server.RegisterService(&gatewayService, shop)
	fmt.Fprintln(os.Stderr, "serving", listener.Addr())
	return server.Serve(listener)
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-rival:", err)
		os.Exit(1)
	}
}
