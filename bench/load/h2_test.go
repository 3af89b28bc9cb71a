package main

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// An echo of grpc-go, to call by hand-written HTTP/2; holds every answer back for `delay`.
func serveEcho(t *testing.T, delay time.Duration) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.MaxConcurrentStreams(16))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(
			_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
		) (any, error) {
			var request []byte
			if err := decode(&request); err != nil {
				return nil, err
			}
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
			return &request, nil
		}}},
	}, struct{}{})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// Every call of a closed loop is answered once, with fewer streams than wanted.
func TestClosedLoopOverH2(t *testing.T) {
	load := &generator{}
	found, err := load.run(command{
		Call: "echo", Transport: "h2", Target: serveEcho(t, 0), Connections: 2, InFlight: 64,
		Total: 5000, TimeoutS: 30,
	}, func() {})
	if err != nil || found.Calls != 5000 || found.Statuses["OK"] != 5000 {
		t.Errorf("%v, %v", found.Statuses, err)
	}
}

// An open loop sends as many calls as are due.
func TestOpenLoopOverH2(t *testing.T) {
	load := &generator{}
	found, err := load.run(command{
		Call: "echo", Transport: "h2", Target: serveEcho(t, 0), Connections: 2, InFlight: 16,
		Rate: 1000, Total: 200, TimeoutS: 30,
	}, func() {})
	if err != nil || found.Statuses["OK"] != 200 {
		t.Errorf("%v, %v", found.Statuses, err)
	}
	if found.Seconds < 0.19 {
		t.Errorf("200 calls at 1000 a second took %f s", found.Seconds)
	}
}

// Who is not answered in time gives up, and does not hold up the end of the run.
func TestLateAnswersOverH2AreGivenUp(t *testing.T) {
	load := &generator{}
	found, err := load.run(command{
		Call: "echo", Transport: "h2", Target: serveEcho(t, time.Minute), Connections: 1, InFlight: 4,
		Total: 8, TimeoutS: 0.2,
	}, func() {})
	if err != nil || found.Calls != 8 || found.Statuses["DeadlineExceeded"] != 8 {
		t.Errorf("%v, %v", found.Statuses, err)
	}
}
