// A load client on grpc-go: round_robin, with the health check that comes with it.
// The README of benches/peers has the protocol.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // Without it the check is silently off.
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	pb "peers/greeter"
)

const payload = 64

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: client ADDRESS,ADDRESS,… THREADS SERVICE_CONFIG")
	}
	threads, err := strconv.Atoi(os.Args[2])
	must(err)
	runtime.GOMAXPROCS(threads)
	var addresses []resolver.Address
	for _, address := range strings.Split(os.Args[1], ",") {
		addresses = append(addresses, resolver.Address{Addr: address})
	}
	backends := manual.NewBuilderWithScheme("listed")
	backends.InitialState(resolver.State{Addresses: addresses})
	channel, err := grpc.NewClient("listed:///backends",
		grpc.WithResolvers(backends),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(os.Args[3]))
	must(err)
	channel.Connect()
	for state := channel.GetState(); state != connectivity.Ready; state = channel.GetState() {
		channel.WaitForStateChange(context.Background(), state)
	}
	tell := json.NewEncoder(os.Stdout)
	must(tell.Encode(map[string]string{
		"version": fmt.Sprintf("%s (%s)", grpc.Version, runtime.Version()),
	}))
	client := pb.NewGreeterClient(channel)
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var concurrency, milliseconds int
		_, err := fmt.Sscanf(orders.Text(), "run %d %d", &concurrency, &milliseconds)
		must(err)
		must(tell.Encode(run(client, concurrency, time.Duration(milliseconds)*time.Millisecond)))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type slice struct {
	Calls     uint64  `json:"calls"`
	Failures  uint64  `json:"failures"`
	ElapsedUs int64   `json:"elapsed_us"`
	CPUUs     int64   `json:"cpu_us"`
	P50Us     float64 `json:"p50_us"`
	P99Us     float64 `json:"p99_us"`
}

// So many goroutines with one call after another. The first call that fails ends the
// program.
func run(client pb.GreeterClient, concurrency int, length time.Duration) slice {
	var recorder recorder
	var callers sync.WaitGroup
	started, cpu := time.Now(), cpuTime()
	until := started.Add(length)
	for number := range concurrency {
		callers.Add(1)
		go func() {
			defer callers.Done()
			request := &pb.HelloRequest{Name: strings.Repeat("x", payload)}
			for began := time.Now(); ; {
				reply, err := client.SayHello(context.Background(), request)
				must(err)
				if len(reply.Message) != payload {
					log.Fatal("a reply was cut")
				}
				ended := time.Now()
				recorder.record(number, ended.Sub(began))
				if !ended.Before(until) {
					return
				}
				began = ended
			}
		}()
	}
	callers.Wait()
	cpu, elapsed := cpuTime()-cpu, time.Since(started)
	latency := recorder.total()
	return slice{
		Calls:     latency.calls,
		ElapsedUs: elapsed.Microseconds(),
		CPUUs:     cpu.Microseconds(),
		P50Us:     latency.quantile(0.5),
		P99Us:     latency.quantile(0.99),
	}
}

// User and system time of this process so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Latencies from many callers, in so few histograms that they stay in the cache, and
// so many that two threads seldom want the same.
type recorder [8]struct {
	sync.Mutex
	histogram
}

func (r *recorder) record(caller int, latency time.Duration) {
	shard := &r[caller%len(r)]
	shard.Lock()
	shard.add(uint64(latency))
	shard.Unlock()
}

func (r *recorder) total() *histogram {
	total := new(histogram)
	for i := range r {
		for at, count := range r[i].counts {
			total.counts[at] += count
		}
		total.calls += r[i].calls
	}
	return total
}
