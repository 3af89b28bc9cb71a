package main

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
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

// A call that is not answered in time is given up, and does not hold up the end of the run.
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

// A call that waits for a free stream is late from when it was due, not from when it was sent.
func TestCallsHeldBackByTheServerAreLate(t *testing.T) {
	load := &generator{}
	found, err := load.run(command{
		Call: "echo", Transport: "h2", Target: serveEcho(t, 100*time.Millisecond), Connections: 1,
		InFlight: 1, Rate: 40, Total: 8, TimeoutS: 0.15,
	}, func() {})
	if err != nil || found.Calls != 8 || found.Statuses["DeadlineExceeded"] < 4 {
		t.Errorf("%v, %v", found.Statuses, err)
	}
}

// What there was no room for in time is left out, and counted.
func TestCallsThatWereNeverSentAreCounted(t *testing.T) {
	load := &generator{}
	found, err := load.run(command{
		Call: "echo", Transport: "h2", Target: serveEcho(t, 300*time.Millisecond), Connections: 1,
		InFlight: 1, Rate: 100, Seconds: 1, TimeoutS: 0.2, Skip: true,
	}, func() {})
	if err != nil || found.HeldBack < 50 || found.Calls+found.HeldBack > 101 {
		t.Errorf("%d calls, %d held back, %v", found.Calls, found.HeldBack, err)
	}
}

// A server that refuses each call, naming a pause, until `refusals` are spent.
func serveRefusals(t *testing.T, refusals int64, pushback string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var left atomic.Int64
	left.Store(refusals)
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			var request []byte
			if err := stream.RecvMsg(&request); err != nil {
				return err
			}
			if left.Add(-1) >= 0 {
				stream.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", pushback))
				return status.Error(codes.ResourceExhausted, "overloaded")
			}
			return stream.SendMsg(&request)
		}))
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// A refused call is sent again after the pause that it was told, and counts once.
func TestRefusedCallsObeyThePause(t *testing.T) {
	load := &generator{}
	found, err := load.run(command{
		Call: "echo", Transport: "h2", Target: serveRefusals(t, 20, "200"), Connections: 1,
		InFlight: 64, Rate: 1000, Total: 20, TimeoutS: 5, Repeats: 3, Obey: true,
	}, func() {})
	if err != nil || found.Calls != 20 || found.Statuses["OK"] != 20 || found.Repeated != 20 {
		t.Errorf("%v, %d sent again, %v", found.Statuses, found.Repeated, err)
	}
	if found.GoodSeconds < 0.2 || found.LatencyMs["p50"] < 200 {
		t.Errorf("answered after %f s, p50 %f ms", found.GoodSeconds, found.LatencyMs["p50"])
	}
}

// A refused call is sent again at once, so often as is wanted and no more.
func TestRefusedCallsAreRepeatedAtOnce(t *testing.T) {
	load := &generator{}
	found, err := load.run(command{
		Call: "echo", Transport: "h2", Target: serveRefusals(t, 1000, "5000"), Connections: 1,
		InFlight: 64, Rate: 1000, Total: 20, TimeoutS: 5, Repeats: 2,
	}, func() {})
	refused := found.Statuses["ResourceExhausted"]
	if err != nil || found.Calls != 20 || refused != 20 || found.Repeated != 40 {
		t.Errorf("%v, %d sent again, %v", found.Statuses, found.Repeated, err)
	}
	if found.Seconds > 2 {
		t.Errorf("they were sent again after %f s", found.Seconds)
	}
}

// A call whose deadline would pass during the pause is given up at once.
func TestPausesBeyondTheDeadlineAreNotWaitedFor(t *testing.T) {
	load := &generator{}
	found, err := load.run(command{
		Call: "echo", Transport: "h2", Target: serveRefusals(t, 1000, "5000"), Connections: 1,
		InFlight: 64, Rate: 1000, Total: 20, TimeoutS: 1, Repeats: 2, Obey: true,
	}, func() {})
	if err != nil || found.Statuses["ResourceExhausted"] != 20 || found.Repeated != 0 {
		t.Errorf("%v, %d sent again, %v", found.Statuses, found.Repeated, err)
	}
}
