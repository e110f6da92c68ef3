// Callers on a channel of grpc-go with health checks and round_robin, over the servers that
// `tests/rolling` restarts. It ends when its stdin ends, and then prints the number of its
// calls, and a line for each call that failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // Without it there are no health checks.
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const config = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": "demo.v1.Greeter"}
}`

// The deadline of a call. A call takes up to 15 ms.
const deadline = 10 * time.Second

func main() {
	callers := flag.Int("callers", 16, "callers that call without a pause")
	flag.Parse()
	conn := connect(flag.Args())
	defer conn.Close()

	var stop atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop.Store(true)
	}()
	var calls atomic.Int64
	lost := make(chan string)
	var running sync.WaitGroup
	for range *callers {
		running.Go(func() {
			for !stop.Load() {
				number := strconv.FormatInt(calls.Add(1)-1, 10)
				if err := call(conn, number); err != nil {
					lost <- fmt.Sprintf("call %s: %v", number, err)
				}
			}
		})
	}
	go func() {
		running.Wait()
		close(lost)
	}()
	var lines []string
	for line := range lost {
		lines = append(lines, line)
	}
	fmt.Println(calls.Load())
	for _, line := range lines {
		fmt.Println(line)
	}
}

func connect(addresses []string) *grpc.ClientConn {
	servers := manual.NewBuilderWithScheme("servers")
	var state resolver.State
	for _, address := range addresses {
		endpoint := resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}}
		state.Endpoints = append(state.Endpoints, endpoint)
	}
	servers.InitialState(state)
	conn, err := grpc.NewClient("servers:///all",
		grpc.WithResolvers(servers),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(config),
		// As short as those of the other client, so that a restart takes no seconds.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  10 * time.Millisecond,
				Multiplier: 1.6,
				MaxDelay:   100 * time.Millisecond,
			},
			MinConnectTimeout: 2 * time.Second,
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	return conn
}

// A StringValue has the bytes of a HelloRequest with that name, and reads the message of a
// HelloReply.
func call(conn *grpc.ClientConn, number string) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var reply wrapperspb.StringValue
	err := conn.Invoke(ctx, "/demo.v1.Greeter/SayHello", wrapperspb.String(number), &reply)
	if err == nil && reply.Value != number {
		log.Fatalf("call %s was answered %q", number, reply.Value)
	}
	return err
}
