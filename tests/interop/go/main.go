// A backend on grpc-go: the greeter of this repository, and the health service
// that comes with grpc-go. `tests/interop/README.md` has the protocol between it
// and the runner.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "interop/greeter"
)

// A text that cannot stand in a header as it is.
const details = "not today: 100 % naïve – 日本"

func main() {
	name := flag.String("name", "go", "in every reply")
	statuses := flag.String("health", "", "SERVICE=STATUS,…")
	noHealth := flag.Bool("no-health", false, "without a health service")
	flag.Bool("gzip", false, "nothing to do: a compressed request has a compressed reply")
	maxAge := flag.Int("max-age-ms", 0, "of a connection")
	grace := flag.Int("grace-ms", 0, "for calls after that")
	cert := flag.String("cert", "", "PEM; with --key, TLS")
	key := flag.String("key", "", "PEM")
	flag.Parse()

	seen := &seen{peers: map[string]bool{}, metadata: map[string]string{}, attempts: map[string]int{}}
	options := []grpc.ServerOption{
		grpc.UnaryInterceptor(seen.unary),
		grpc.StreamInterceptor(seen.stream),
	}
	if *maxAge > 0 {
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge:      time.Duration(*maxAge) * time.Millisecond,
			MaxConnectionAgeGrace: time.Duration(*grace) * time.Millisecond,
		}))
	}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		must(err)
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	}
	server := grpc.NewServer(options...)
	pb.RegisterGreeterServer(server, &greeter{name: *name})
	checker := health.NewServer()
	for _, each := range strings.Split(*statuses, ",") {
		if service, status, ok := strings.Cut(each, "="); ok {
			checker.SetServingStatus(service, healthpb.HealthCheckResponse_ServingStatus(healthpb.HealthCheckResponse_ServingStatus_value[status]))
		}
	}
	if !*noHealth {
		healthpb.RegisterHealthServer(server, checker)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	orders, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go control(orders, &backend{server, checker, seen})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // The runner is gone.
	}()
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"grpc":    listener.Addr().(*net.TCPAddr).Port,
		"control": orders.Addr().(*net.TCPAddr).Port,
		"version": "grpc-go " + grpc.Version,
	}))
	must(server.Serve(listener))
	<-stopped
}

// Closed when a graceful stop has come to its end: `Serve` returns before that.
var stopped = make(chan struct{})

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type backend struct {
	server *grpc.Server
	health *health.Server
	seen   *seen
}

func control(listener net.Listener, b *backend) {
	for {
		conn, err := listener.Accept()
		must(err)
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				fmt.Fprintln(conn, b.obey(lines.Text()))
			}
		}()
	}
}

func (b *backend) obey(line string) string {
	order, service, _ := strings.Cut(line, " ")
	switch order {
	case "serving":
		b.health.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	case "not_serving":
		b.health.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
	case "stop":
		go b.stop()
	case "retire":
		b.health.Shutdown()
		go b.stop()
	case "seen":
		return b.seen.tell()
	default:
		return "no such order"
	}
	return "ok"
}

func (b *backend) stop() {
	b.server.GracefulStop()
	close(stopped)
}

// What the greeter's calls were like.
type seen struct {
	sync.Mutex
	calls, cancelled int
	deadline         int64
	metadata         map[string]string
	peers            map[string]bool
	attempts         map[string]int
}

func (s *seen) tell() string {
	s.Lock()
	defer s.Unlock()
	text, err := json.Marshal(map[string]any{
		"calls": s.calls, "cancelled": s.cancelled, "connections": len(s.peers),
		"deadline_ms": s.deadline, "metadata": s.metadata, "attempts": s.attempts,
	})
	must(err)
	return string(text)
}

func (s *seen) began(ctx context.Context) {
	s.Lock()
	defer s.Unlock()
	s.calls++
	s.attempts[previousAttempts(ctx)]++
	if peer, ok := peer.FromContext(ctx); ok {
		s.peers[peer.Addr.String()] = true
	}
	s.deadline = 0
	if deadline, ok := ctx.Deadline(); ok {
		s.deadline = time.Until(deadline).Milliseconds()
	}
	incoming, _ := metadata.FromIncomingContext(ctx)
	s.metadata = map[string]string{}
	for name, values := range incoming {
		if !strings.HasPrefix(name, "x-") {
			continue
		}
		for at, value := range values {
			if strings.HasSuffix(name, "-bin") {
				values[at] = base64.StdEncoding.EncodeToString([]byte(value))
			}
		}
		s.metadata[name] = strings.Join(values, ",")
	}
}

func (s *seen) ended(ctx context.Context) {
	s.Lock()
	defer s.Unlock()
	if ctx.Err() != nil {
		s.cancelled++
	}
}

// How many attempts the client made before this one, empty on its first.
func previousAttempts(ctx context.Context) string {
	return strings.Join(metadata.ValueFromIncomingContext(ctx, "grpc-previous-rpc-attempts"), ",")
}

func isGreeter(method string) bool {
	return strings.HasPrefix(method, "/demo.v1.Greeter/")
}

// The caller's own metadata, which goes back in headers, and again in trailers.
func echo(ctx context.Context) metadata.MD {
	incoming, _ := metadata.FromIncomingContext(ctx)
	own := metadata.MD{}
	for name, values := range incoming {
		if strings.HasPrefix(name, "x-") {
			own[name] = append([]string(nil), values...)
		}
	}
	return own
}

func trailers(ctx context.Context) metadata.MD {
	own := metadata.MD{}
	for name, values := range echo(ctx) {
		own["x-trailing-"+strings.TrimPrefix(name, "x-")] = values
	}
	return own
}

func (s *seen) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if !isGreeter(info.FullMethod) {
		return handler(ctx, request)
	}
	grpc.SetHeader(ctx, echo(ctx))
	grpc.SetTrailer(ctx, trailers(ctx))
	s.began(ctx)
	defer s.ended(ctx)
	return handler(ctx, request)
}

func (s *seen) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if !isGreeter(info.FullMethod) {
		return handler(service, stream)
	}
	ctx := stream.Context()
	stream.SetHeader(echo(ctx))
	stream.SetTrailer(trailers(ctx))
	s.began(ctx)
	defer s.ended(ctx)
	return handler(service, stream)
}

type greeter struct {
	pb.UnimplementedGreeterServer
	name string
}

// Does what the name asks for.
func (g *greeter) greet(ctx context.Context, name string) (*pb.HelloReply, error) {
	order, argument, _ := strings.Cut(name, ":")
	number, _ := strconv.Atoi(argument)
	switch order {
	case "hold":
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	case "slow":
		select {
		case <-time.After(time.Duration(number) * time.Millisecond):
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	case "size":
		return g.reply(strings.Repeat("x", number)), nil
	case "count":
		return g.reply(fmt.Sprintf("%d letters", len(argument))), nil
	case "fail":
		failed, err := status.New(codes.Code(number), details).WithDetails(g.reply("detail"))
		must(err)
		return nil, failed.Err()
	case "if":
		condition, then, _ := strings.Cut(argument, ":")
		if g.holds(ctx, condition) {
			return g.greet(ctx, then)
		}
	case "headers":
		if err := grpc.SendHeader(ctx, nil); err != nil {
			return nil, err
		}
		return g.greet(ctx, argument)
	case "pushback":
		millis, then, _ := strings.Cut(argument, ":")
		grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", millis))
		return g.greet(ctx, then)
	}
	return g.reply("Hello " + name + "!"), nil
}

// Whether there were fewer attempts before this one, or this backend has the name.
func (g *greeter) holds(ctx context.Context, condition string) bool {
	limit, err := strconv.Atoi(condition)
	if err != nil {
		return condition == g.name
	}
	previous, _ := strconv.Atoi(previousAttempts(ctx))
	return previous < limit
}

func (g *greeter) reply(message string) *pb.HelloReply {
	return &pb.HelloReply{Message: message, Backend: g.name}
}

func (g *greeter) SayHello(ctx context.Context, request *pb.HelloRequest) (*pb.HelloReply, error) {
	return g.greet(ctx, request.Name)
}

func (g *greeter) SayHelloMany(request *pb.HelloRequest, stream grpc.ServerStreamingServer[pb.HelloReply]) error {
	for range request.Count {
		reply, err := g.greet(stream.Context(), request.Name)
		if err != nil {
			return err
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
	return nil
}

// Replies with how many letters the names have, as they may be large.
func (g *greeter) GreetAll(stream grpc.ClientStreamingServer[pb.HelloRequest, pb.HelloReply]) error {
	names, letters := 0, 0
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(g.reply(fmt.Sprintf("%d names of %d letters", names, letters)))
		}
		if err != nil {
			return err
		}
		if _, err := g.greet(stream.Context(), request.Name); err != nil {
			return err
		}
		names, letters = names+1, letters+len(request.Name)
	}
}

func (g *greeter) Chat(stream grpc.BidiStreamingServer[pb.HelloRequest, pb.HelloReply]) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		reply, err := g.greet(stream.Context(), request.Name)
		if err != nil {
			return err
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
}
