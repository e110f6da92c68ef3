// The metrics of grpc-go's own plugin for calls that the runner then does with this crate's channel.
//
// It serves, and prints the ports as a line of JSON. It makes its calls, prints what its plugin has
// recorded as a second line, and serves on until its stdin ends.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/stats/opentelemetry"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds" // Outlier detection comes with it.
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const method = "/demo.v1.Greeter/SayHello"

// The first line for the runner.
type ports struct {
	Good    int    `json:"good"`
	Bad     int    `json:"bad"`
	Refuses int    `json:"refuses"`
	Version string `json:"version"`
}

// The scenes, which the runner gives as the argument, and then plays, too.
type script struct {
	Metrics        []string `json:"metrics"`
	OptionalLabels []string `json:"optional_labels"`
	Scenes         []scene  `json:"scenes"`
}

type scene struct {
	Name     string   `json:"name"`
	Config   string   `json:"config"`
	Backends []string `json:"backends"`
	Calls    []string `json:"calls"`
	// Metrics that have to be there before the scene is over.
	Until []string `json:"until"`
	// Whether calls go on until then.
	CallsOn bool `json:"calls_on"`
}

// One series: its labels, and how many values it has.
type series struct {
	Labels map[string]string `json:"labels"`
	Count  int64             `json:"count"`
}

type instrument struct {
	Unit   string    `json:"unit"`
	Kind   string    `json:"kind"`
	Bounds []float64 `json:"bounds"`
	Series []series  `json:"series"`
}

// A metric of grpc-go's registry.
type descriptor struct {
	Unit     string   `json:"unit"`
	Kind     string   `json:"kind"`
	Labels   []string `json:"labels"`
	Optional []string `json:"optional_labels"`
	Default  bool     `json:"default"`
}

type result struct {
	Descriptors map[string]descriptor            `json:"descriptors"`
	Scenes      map[string]map[string]instrument `json:"scenes"`
}

func main() {
	var plan script
	if err := json.Unmarshal([]byte(os.Args[1]), &plan); err != nil {
		log.Fatal(err)
	}
	told := ports{Good: serve(""), Bad: serve("fail:14"), Refuses: closed(), Version: grpc.Version}
	tell(told)
	out := result{Descriptors: descriptors(plan.Metrics), Scenes: map[string]map[string]instrument{}}
	for _, one := range plan.Scenes {
		out.Scenes[one.Name] = play(plan, one, told)
	}
	tell(out)
	io.Copy(io.Discard, os.Stdin)
}

func tell(what any) {
	line, err := json.Marshal(what)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

// A port on which nothing listens.
func closed() int {
	listener := listen()
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func listen() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

// Its connections, so that a call can end the one that it came by.
type tracked struct {
	net.Listener
	connections sync.Map
}

func (t *tracked) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err == nil {
		t.connections.Store(conn.RemoteAddr().String(), conn)
	}
	return conn, err
}

// A server whose calls do what the name in the request says, unless all do the same.
func serve(all string) int {
	listener := &tracked{Listener: listen()}
	handler := func(_ any, stream grpc.ServerStream) error {
		var name wrapperspb.StringValue
		if err := stream.RecvMsg(&name); err != nil {
			return err
		}
		order := name.Value
		if all != "" {
			order = all
		}
		if err := obey(stream.Context(), listener, order); err != nil {
			return err
		}
		return stream.SendMsg(wrapperspb.String("hello"))
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(handler))
	go server.Serve(listener)
	return listener.Addr().(*net.TCPAddr).Port
}

func obey(ctx context.Context, listener *tracked, order string) error {
	word, number, _ := strings.Cut(order, ":")
	n, _ := strconv.Atoi(number)
	switch word {
	case "fail":
		return status.Error(codes.Code(n), "as ordered")
	case "again": // The first n attempts fail.
		before := 0
		if given := metadata.ValueFromIncomingContext(ctx, "grpc-previous-rpc-attempts"); len(given) > 0 {
			before, _ = strconv.Atoi(given[0])
		}
		if before < n {
			return status.Error(codes.Unavailable, "as ordered")
		}
	case "hold":
		<-ctx.Done()
		return ctx.Err()
	case "close":
		from, _ := peer.FromContext(ctx)
		conn, _ := listener.connections.Load(from.Addr.String())
		time.AfterFunc(100*time.Millisecond, func() { conn.(net.Conn).Close() })
	}
	return nil
}

func kind(of estats.MetricType) string {
	switch of {
	case estats.MetricTypeIntCount, estats.MetricTypeFloatCount:
		return "counter"
	case estats.MetricTypeIntHisto, estats.MetricTypeFloatHisto:
		return "histogram"
	case estats.MetricTypeIntUpDownCount:
		return "up-down"
	}
	return "gauge"
}

func descriptors(names []string) map[string]descriptor {
	found := map[string]descriptor{}
	for _, name := range names {
		if one := estats.DescriptorForMetric(name); one != nil {
			found[name] = descriptor{one.Unit, kind(one.Type), one.Labels, one.OptionalLabels, one.Default}
		}
	}
	return found
}

// The metrics of the scene's channel.
func play(plan script, scene scene, told ports) map[string]instrument {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	servers := manual.NewBuilderWithScheme("servers")
	var state resolver.State
	for _, name := range scene.Backends {
		port := map[string]int{"good": told.Good, "bad": told.Bad, "refuses": told.Refuses}[name]
		addr := resolver.Address{Addr: fmt.Sprintf("127.0.0.1:%d", port)}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{addr}})
	}
	servers.InitialState(state)
	conn, err := grpc.NewClient("servers:///"+scene.Name,
		grpc.WithResolvers(servers),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(scene.Config),
		opentelemetry.DialOption(opentelemetry.Options{MetricsOptions: opentelemetry.MetricsOptions{
			MeterProvider:  provider,
			Metrics:        opentelemetry.DefaultMetrics().Add(plan.Metrics...),
			OptionalLabels: plan.OptionalLabels,
		}}),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	for _, name := range scene.Calls {
		call(conn, name)
	}
	end := time.Now().Add(10 * time.Second)
	for {
		found := collect(reader)
		missing := slices.DeleteFunc(slices.Clone(scene.Until), func(name string) bool {
			_, isThere := found[name]
			return isThere
		})
		if len(missing) == 0 {
			return found
		}
		if time.Now().After(end) {
			log.Fatalf("%s: grpc-go has not recorded %v", scene.Name, missing)
		}
		if scene.CallsOn {
			call(conn, "you")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A call has a method if its client is generated, which StaticMethod says.
func call(conn *grpc.ClientConn, name string) {
	within := 10 * time.Second
	if name == "hold" {
		within = 100 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var reply wrapperspb.StringValue
	conn.Invoke(ctx, method, wrapperspb.String(name), &reply, grpc.StaticMethod())
}

func collect(reader *metric.ManualReader) map[string]instrument {
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		log.Fatal(err)
	}
	found := map[string]instrument{}
	for _, scope := range all.ScopeMetrics {
		for _, one := range scope.Metrics {
			found[one.Name] = read(one)
		}
	}
	return found
}

func read(one metricdata.Metrics) instrument {
	out := instrument{Unit: one.Unit}
	add := func(labels map[string]string, count int64) {
		out.Series = append(out.Series, series{labels, count})
	}
	switch data := one.Data.(type) {
	case metricdata.Sum[int64]:
		out.Kind = "up-down"
		if data.IsMonotonic {
			out.Kind = "counter"
		}
		for _, point := range data.DataPoints {
			add(labels(point), point.Value)
		}
	case metricdata.Histogram[int64]:
		out.Kind = "histogram"
		for _, point := range data.DataPoints {
			out.Bounds = point.Bounds
			add(labelsOfHistogram(point), int64(point.Count))
		}
	case metricdata.Histogram[float64]:
		out.Kind = "histogram"
		for _, point := range data.DataPoints {
			out.Bounds = point.Bounds
			add(labelsOfHistogram(point), int64(point.Count))
		}
	default:
		log.Fatalf("%s is %T", one.Name, one.Data)
	}
	return out
}

func labels[N int64 | float64](point metricdata.DataPoint[N]) map[string]string {
	out := map[string]string{}
	for _, one := range point.Attributes.ToSlice() {
		out[string(one.Key)] = one.Value.AsString()
	}
	return out
}

func labelsOfHistogram[N int64 | float64](point metricdata.HistogramDataPoint[N]) map[string]string {
	out := map[string]string{}
	for _, one := range point.Attributes.ToSlice() {
		out[string(one.Key)] = one.Value.AsString()
	}
	return out
}
