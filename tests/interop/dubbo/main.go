// A backend on dubbo-go: the greeter of this repository as a triple server, and the
// health service that comes with it. `tests/interop/README.md` has the protocol between
// it and the runner.
//
// dubbo-go logs to stdout, so the ports are told on descriptor 3: `serve` makes that
// stdout, and throws the log away.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"dubbo.apache.org/dubbo-go/v3/common"
	"dubbo.apache.org/dubbo-go/v3/common/constant"
	"dubbo.apache.org/dubbo-go/v3/common/extension"
	_ "dubbo.apache.org/dubbo-go/v3/filter/accesslog"
	_ "dubbo.apache.org/dubbo-go/v3/filter/echo"
	_ "dubbo.apache.org/dubbo-go/v3/filter/exec_limit"
	_ "dubbo.apache.org/dubbo-go/v3/filter/generic"
	_ "dubbo.apache.org/dubbo-go/v3/filter/graceful_shutdown"
	_ "dubbo.apache.org/dubbo-go/v3/filter/token"
	_ "dubbo.apache.org/dubbo-go/v3/filter/tps"
	"dubbo.apache.org/dubbo-go/v3/protocol"
	_ "dubbo.apache.org/dubbo-go/v3/protocol/triple"
	tri "dubbo.apache.org/dubbo-go/v3/protocol/triple/triple_protocol"
	_ "dubbo.apache.org/dubbo-go/v3/proxy/proxy_factory"
	"dubbo.apache.org/dubbo-go/v3/server"

	pb "interop/greeter"
)

// A text that cannot stand in a header as it is.
const details = "not today: 100 % naïve – 日本"

func main() {
	name := flag.String("name", "dubbo", "in every reply")
	statuses := flag.String("health", "", "SERVICE=STATUS,…")
	flag.Bool("no-health", false, "nothing to do: another executable, without it")
	flag.Bool("gzip", false, "nothing to do: a compressed request has a compressed reply")
	flag.Parse()

	b := &backend{port: freePort(), seen: &seen{metadata: map[string]string{}}, services: map[string]bool{}}
	triple, err := server.NewServer(server.WithServerProtocol(
		protocol.WithTriple(), protocol.WithIp("127.0.0.1"), protocol.WithPort(b.port),
	))
	must(err)
	must(triple.Register(&Greeter{*name, b.seen}, info(), server.WithNotRegister()))
	go func() { must(triple.Serve()) }()
	// Serve does not tell when it listens, nor when it has registered what it serves.
	for !b.answers() {
		time.Sleep(time.Millisecond)
	}
	for _, each := range strings.Split(*statuses, ",") {
		if service, status, ok := strings.Cut(each, "="); ok {
			b.set(service, status == "SERVING")
		}
	}

	orders, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go control(orders, b)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // The runner is gone.
	}()
	must(json.NewEncoder(os.NewFile(3, "ports")).Encode(map[string]any{
		"grpc":    b.port,
		"control": orders.Addr().(*net.TCPAddr).Port,
		"version": "dubbo-go " + version(),
	}))
	<-stopped
}

// Closed when a graceful stop has come to its end.
var stopped = make(chan struct{})

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func version() string {
	build, _ := debug.ReadBuildInfo()
	for _, module := range build.Deps {
		if module.Path == "dubbo.apache.org/dubbo-go/v3" {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return "of an unknown version"
}

// dubbo-go takes a number, and no listener.
func freePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

type backend struct {
	port     int
	seen     *seen
	services map[string]bool
}

// Whether its health service does, by the simplest of triple's protocols; or anything,
// where there is none.
func (b *backend) answers() bool {
	check := fmt.Sprintf("http://127.0.0.1:%d/grpc.health.v1.Health/Check", b.port)
	answer, err := http.Post(check, "application/json", strings.NewReader("{}"))
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return setServing == nil || answer.StatusCode == http.StatusOK
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
		b.set(service, true)
	case "not_serving":
		b.set(service, false)
	case "stop":
		go b.stop()
	case "retire":
		for service := range b.services {
			b.set(service, false)
		}
		go b.stop()
	case "seen":
		return b.seen.tell(b.port)
	default:
		return "no such order"
	}
	return "ok"
}

// Of dubbo-go's health service, which is there when its package is: health.go.
var setServing, setNotServing func(service string)

func (b *backend) set(service string, serving bool) {
	b.services[service] = true
	if serving {
		setServing(service)
	} else {
		setNotServing(service)
	}
}

func (b *backend) stop() {
	extension.GetProtocol("tri").Destroy()
	close(stopped)
}

// What the greeter's calls were like.
type seen struct {
	sync.Mutex
	calls, cancelled int
	deadline         int64
	metadata         map[string]string
}

func (s *seen) tell(port int) string {
	s.Lock()
	defer s.Unlock()
	text, err := json.Marshal(map[string]any{
		"calls": s.calls, "cancelled": s.cancelled, "connections": connections(port),
		"deadline_ms": s.deadline, "metadata": s.metadata,
	})
	must(err)
	return string(text)
}

// How many the kernel knows: a unary handler is not told who calls.
func connections(port int) int {
	table, err := os.ReadFile("/proc/net/tcp")
	must(err)
	count := 0
	for _, line := range strings.Split(string(table), "\n") {
		words := strings.Fields(line)
		if len(words) > 3 && words[3] == "01" && strings.HasSuffix(words[1], fmt.Sprintf(":%04X", port)) {
			count++
		}
	}
	return count
}

func (s *seen) began(ctx context.Context, headers http.Header) {
	s.Lock()
	defer s.Unlock()
	s.calls++
	s.deadline = 0
	if deadline, ok := ctx.Deadline(); ok {
		s.deadline = time.Until(deadline).Milliseconds()
	}
	s.metadata = map[string]string{}
	for name, values := range own(headers) {
		told := append([]string(nil), values...)
		for at, value := range told {
			if strings.HasSuffix(name, "-bin") {
				bytes, err := tri.DecodeBinaryHeader(value)
				must(err)
				told[at] = base64.StdEncoding.EncodeToString(bytes)
			}
		}
		s.metadata[name] = strings.Join(told, ",")
	}
}

func (s *seen) ended(ctx context.Context) {
	s.Lock()
	defer s.Unlock()
	if ctx.Err() != nil {
		s.cancelled++
	}
}

// The caller's own metadata, which goes back in headers, and again in trailers.
func own(headers http.Header) map[string][]string {
	own := map[string][]string{}
	for name, values := range headers {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-") {
			own[name] = values
		}
	}
	return own
}

func echo(request, headers, trailers http.Header) {
	for name, values := range own(request) {
		for _, value := range values {
			headers.Add(name, value)
			trailers.Add("x-trailing-"+strings.TrimPrefix(name, "x-"), value)
		}
	}
}

// Greeter is public, with its methods, as dubbo-go takes no other.
type Greeter struct {
	name string
	seen *seen
}

// Does what the name asks for.
func (g *Greeter) greet(ctx context.Context, name string) (*pb.HelloReply, error) {
	order, argument, _ := strings.Cut(name, ":")
	number, _ := strconv.Atoi(argument)
	switch order {
	case "hold":
		<-ctx.Done()
		return nil, ctx.Err()
	case "slow":
		select {
		case <-time.After(time.Duration(number) * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "size":
		return g.reply(strings.Repeat("x", number)), nil
	case "count":
		return g.reply(fmt.Sprintf("%d letters", len(argument))), nil
	case "fail":
		failed := tri.NewError(tri.Code(number), errors.New(details))
		detail, err := tri.NewErrorDetail(g.reply("detail"))
		must(err)
		failed.AddDetail(detail)
		return nil, failed
	}
	return g.reply("Hello " + name + "!"), nil
}

func (g *Greeter) reply(message string) *pb.HelloReply {
	return &pb.HelloReply{Message: message, Backend: g.name}
}

func (g *Greeter) SayHello(ctx context.Context, request *pb.HelloRequest) (*pb.HelloReply, error) {
	return g.greet(ctx, request.Name)
}

func (g *Greeter) SayHelloMany(ctx context.Context, request *pb.HelloRequest, stream *tri.ServerStream) error {
	for range request.Count {
		reply, err := g.greet(ctx, request.Name)
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
func (g *Greeter) GreetAll(ctx context.Context, stream *tri.ClientStream) (*pb.HelloReply, error) {
	names, letters := 0, 0
	for {
		request := new(pb.HelloRequest)
		if !stream.Receive(request) {
			break
		}
		if _, err := g.greet(ctx, request.Name); err != nil {
			return nil, err
		}
		names, letters = names+1, letters+len(request.Name)
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return g.reply(fmt.Sprintf("%d names of %d letters", names, letters)), nil
}

func (g *Greeter) Chat(ctx context.Context, stream *tri.BidiStream) error {
	for {
		request := new(pb.HelloRequest)
		err := stream.Receive(request)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		reply, err := g.greet(ctx, request.Name)
		if err != nil {
			return err
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
}

// What protoc-gen-go-triple would make of the greeter.
func info() *common.ServiceInfo {
	request := func() any { return new(pb.HelloRequest) }
	itself := func(stream any) any { return stream }
	return &common.ServiceInfo{
		InterfaceName: "demo.v1.Greeter",
		ServiceType:   (*Greeter)(nil),
		Methods: []common.MethodInfo{{
			Name: "SayHello", Type: constant.CallUnary, ReqInitFunc: request,
			MethodFunc: func(ctx context.Context, args []any, handler any) (any, error) {
				g := handler.(*Greeter)
				incoming, _ := tri.FromIncomingContext(ctx)
				g.seen.began(ctx, incoming)
				defer g.seen.ended(ctx)
				reply, err := g.SayHello(ctx, args[0].(*pb.HelloRequest))
				if err != nil {
					return nil, err
				}
				response := tri.NewResponse(reply)
				echo(incoming, response.Header(), response.Trailer())
				return response, nil
			},
		}, {
			Name: "SayHelloMany", Type: constant.CallServerStream, ReqInitFunc: request, StreamInitFunc: itself,
			MethodFunc: func(ctx context.Context, args []any, handler any) (any, error) {
				g, stream := handler.(*Greeter), args[1].(*tri.ServerStream)
				incoming := stream.Conn().RequestHeader()
				echo(incoming, stream.ResponseHeader(), stream.ResponseTrailer())
				g.seen.began(ctx, incoming)
				defer g.seen.ended(ctx)
				return nil, g.SayHelloMany(ctx, args[0].(*pb.HelloRequest), stream)
			},
		}, {
			Name: "GreetAll", Type: constant.CallClientStream, StreamInitFunc: itself,
			MethodFunc: func(ctx context.Context, args []any, handler any) (any, error) {
				g, stream := handler.(*Greeter), args[0].(*tri.ClientStream)
				incoming := stream.RequestHeader()
				echo(incoming, stream.Conn().ResponseHeader(), stream.Conn().ResponseTrailer())
				g.seen.began(ctx, incoming)
				defer g.seen.ended(ctx)
				reply, err := g.GreetAll(ctx, stream)
				if err != nil {
					return nil, err
				}
				return tri.NewResponse(reply), nil
			},
		}, {
			Name: "Chat", Type: constant.CallBidiStream, StreamInitFunc: itself,
			MethodFunc: func(ctx context.Context, args []any, handler any) (any, error) {
				g, stream := handler.(*Greeter), args[0].(*tri.BidiStream)
				incoming := stream.RequestHeader()
				echo(incoming, stream.ResponseHeader(), stream.ResponseTrailer())
				g.seen.began(ctx, incoming)
				defer g.seen.ended(ctx)
				return nil, g.Chat(ctx, stream)
			},
		}},
	}
}
