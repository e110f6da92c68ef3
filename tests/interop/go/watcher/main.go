// A client on grpc-go that watches the health of a server. `tests/interop/README.md` has what
// it prints.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // Health checks by the channel itself (gRFC A17).
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func main() {
	address := flag.String("address", "", "HOST:PORT of the server")
	services := flag.String("services", "", "SERVICE,…")
	flag.Parse()
	fmt.Println("version grpc-go " + grpc.Version)
	for _, service := range strings.Split(*services, ",") {
		go watch(*address, service)
		go follow(*address, service)
	}
	io.Copy(io.Discard, os.Stdin) // Until the runner has ended.
}

func dial(address string, options ...grpc.DialOption) *grpc.ClientConn {
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	conn, err := grpc.NewClient("passthrough:///"+address, append(options, plain)...)
	must(err)
	return conn
}

// Prints each message of a `Watch`, and the code of its end.
func watch(address, service string) {
	client := healthpb.NewHealthClient(dial(address))
	request := &healthpb.HealthCheckRequest{Service: service}
	stream, err := client.Watch(context.Background(), request, grpc.WaitForReady(true))
	must(err)
	for {
		response, err := stream.Recv()
		if err != nil {
			fmt.Printf("%s watch end %d\n", service, status.Code(err))
			return
		}
		fmt.Printf("%s watch %s\n", service, response.Status)
	}
}

// Prints each state of a channel with health checks that decides about calls, with the code of
// a call in that state.
func follow(address, service string) {
	config := fmt.Sprintf(`{"loadBalancingConfig": [{"round_robin": {}}],
		"healthCheckConfig": {"serviceName": %q}}`, service)
	conn := dial(address, grpc.WithDefaultServiceConfig(config))
	conn.Connect()
	client := healthpb.NewHealthClient(conn)
	for {
		state := conn.GetState()
		if state == connectivity.Ready || state == connectivity.TransientFailure {
			_, err := client.Check(context.Background(), &healthpb.HealthCheckRequest{})
			fmt.Printf("%s channel %s %d\n", service, state, status.Code(err))
		}
		conn.WaitForStateChange(context.Background(), state)
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
