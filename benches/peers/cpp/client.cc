// A load client on C++ gRPC: round_robin, with the health check that is built in. The
// README of benches/peers has the protocol.
//
// Callers are entries of completion queues, of which each thread has one: the
// asynchronous API. One thread does all that its queue's calls need, their I/O too,
// where the threads of the callback API would be the library's.

#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "demo/v1/greeter.grpc.pb.h"
#include "histogram.h"

using demo::v1::Greeter;
using demo::v1::HelloReply;
using demo::v1::HelloRequest;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::size_t kPayload = 64;

[[noreturn]] void fail(const std::string& why) {
  std::cerr << why << std::endl;
  std::_Exit(1);
}

// One call after another. The first that fails ends the program.
class Caller {
 public:
  Caller(Greeter::Stub& stub, grpc::CompletionQueue& queue) : stub_(stub), queue_(queue) {
    request_.set_name(std::string(kPayload, 'x'));
  }

  void call(Clock::time_point now) {
    started_ = now;
    context_.emplace();
    reader_ = stub_.AsyncSayHello(&*context_, request_, &queue_);
    reader_->Finish(&reply_, &status_, this);
  }

  // Of the call that has ended, in nanoseconds.
  uint64_t finish(Clock::time_point now) {
    if (!status_.ok()) fail(status_.error_message());
    if (reply_.message().size() != kPayload) fail("a reply was cut");
    reader_.reset();
    return std::chrono::nanoseconds(now - started_).count();
  }

 private:
  Greeter::Stub& stub_;
  grpc::CompletionQueue& queue_;
  HelloRequest request_;
  HelloReply reply_;
  grpc::Status status_;
  std::optional<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<HelloReply>> reader_;
  Clock::time_point started_;
};

// So many callers on one queue, until the time is over and all have ended.
void call_on(Greeter::Stub& stub, grpc::CompletionQueue& queue, std::size_t callers,
             Clock::time_point until, Histogram& latency) {
  std::vector<std::unique_ptr<Caller>> all;
  for (std::size_t number = 0; number < callers; ++number) {
    all.push_back(std::make_unique<Caller>(stub, queue));
    all.back()->call(Clock::now());
  }
  std::size_t left = callers;
  void* tag;
  bool ok;
  while (left > 0 && queue.Next(&tag, &ok)) {
    auto* caller = static_cast<Caller*>(tag);
    const auto now = Clock::now();
    latency.add(caller->finish(now));
    if (now >= until) {
      --left;
    } else {
      caller->call(now);
    }
  }
}

// User and system time of this process so far.
std::chrono::microseconds cpu_time() {
  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0) fail("getrusage");
  const auto micros = [](timeval time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  };
  return micros(usage.ru_utime) + micros(usage.ru_stime);
}

void run(Greeter::Stub& stub, std::vector<grpc::CompletionQueue>& queues, std::size_t concurrency,
         std::chrono::milliseconds length) {
  const auto cpu = cpu_time();
  const auto started = Clock::now();
  std::vector<Histogram> latencies(queues.size());
  std::vector<std::thread> threads;
  // The first thread is this one, and has one more if they cannot be shared evenly.
  const auto share = [&](std::size_t at) {
    return (concurrency + queues.size() - 1 - at) / queues.size();
  };
  for (std::size_t at = 1; at < queues.size(); ++at) {
    threads.emplace_back([&, at] {
      call_on(stub, queues[at], share(at), started + length, latencies[at]);
    });
  }
  call_on(stub, queues[0], share(0), started + length, latencies[0]);
  for (auto& thread : threads) thread.join();
  const auto elapsed = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - started);
  const auto used = cpu_time() - cpu;
  auto& latency = latencies[0];
  for (std::size_t at = 1; at < latencies.size(); ++at) latency.add(latencies[at]);
  std::printf(
      "{\"calls\":%llu,\"failures\":0,\"elapsed_us\":%lld,\"cpu_us\":%lld,"
      "\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
      static_cast<unsigned long long>(latency.calls()), static_cast<long long>(elapsed.count()),
      static_cast<long long>(used.count()), latency.quantile(0.5), latency.quantile(0.99));
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) fail("usage: client ADDRESS,ADDRESS,… THREADS SERVICE_CONFIG");
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(words[3]);
  const auto channel = grpc::CreateCustomChannel(std::string("ipv4:") + words[1],
                                                 grpc::InsecureChannelCredentials(), arguments);
  if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10))) {
    fail("not connected within 10 s");
  }
  std::printf("{\"version\":\"%s (gcc %s)\"}\n", grpc::Version().c_str(), __VERSION__);
  std::fflush(stdout);
  const auto stub = Greeter::NewStub(channel);
  std::vector<grpc::CompletionQueue> queues(std::stoul(words[2]));
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream order(line);
    std::string word;
    std::size_t concurrency;
    long long milliseconds;
    if (!(order >> word >> concurrency >> milliseconds) || word != "run") {
      fail("`" + line + "` is no order");
    }
    run(*stub, queues, concurrency, std::chrono::milliseconds(milliseconds));
  }
}
