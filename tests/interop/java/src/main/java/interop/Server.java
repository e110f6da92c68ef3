package interop;

import com.google.protobuf.Any;
import com.google.rpc.Status;
import demo.v1.GreeterGrpc;
import demo.v1.GreeterOuterClass.HelloReply;
import demo.v1.GreeterOuterClass.HelloRequest;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.ForwardingServerCallListener.SimpleForwardingServerCallListener;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsServerCredentials;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.StreamObserver;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.Collectors;

/**
 * A backend on grpc-java: the greeter of this repository, and the health service of grpc-services.
 * {@code tests/interop/README.md} has the protocol between it and the runner.
 */
public final class Server {
  /** A text that cannot stand in a header as it is. */
  private static final String DETAILS = "not today: 100 % naïve – 日本";

  private static final Metadata.Key<String> PREVIOUS_ATTEMPTS =
      Metadata.Key.of("grpc-previous-rpc-attempts", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);
  private static final Context.Key<Attempt> ATTEMPT = Context.key("attempt");

  private Seen seen;
  private final HealthStatusManager health = new HealthStatusManager();
  private io.grpc.Server server;

  /** Writes whole stacks about calls that are cancelled, which is what they are here for. */
  private static final Logger LOG = Logger.getLogger("io.grpc");

  public static void main(String[] arguments) throws Exception {
    LOG.setLevel(Level.OFF);
    Map<String, String> given = new HashMap<>();
    for (int at = 0; at < arguments.length; at++) {
      boolean alone = Set.of("--no-health", "--gzip").contains(arguments[at]);
      given.put(arguments[at], alone ? "" : arguments[++at]);
    }
    new Server().run(given);
  }

  private void run(Map<String, String> given) throws Exception {
    seen = new Seen(given.containsKey("--gzip"));
    for (String each : given.getOrDefault("--health", "").split(",")) {
      int at = each.indexOf('=');
      if (at >= 0) {
        health.setStatus(each.substring(0, at), ServingStatus.valueOf(each.substring(at + 1)));
      }
    }
    var credentials =
        given.containsKey("--cert")
            ? TlsServerCredentials.create(
                new File(given.get("--cert")), new File(given.get("--key")))
            : InsecureServerCredentials.create();
    var address = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
    var builder = NettyServerBuilder.forAddress(address, credentials);
    builder.addService(
        ServerInterceptors.intercept(new Greeter(given.getOrDefault("--name", "java")), seen));
    if (!given.containsKey("--no-health")) {
      builder.addService(health.getHealthService());
    }
    if (given.containsKey("--max-age-ms")) {
      builder.maxConnectionAge(Long.parseLong(given.get("--max-age-ms")), TimeUnit.MILLISECONDS);
      builder.maxConnectionAgeGrace(Long.parseLong(given.get("--grace-ms")), TimeUnit.MILLISECONDS);
    }
    server = builder.build().start();
    var orders = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    background(() -> control(orders));
    background(Server::untilTheRunnerIsGone);
    System.out.printf(
        "{\"grpc\": %d, \"control\": %d, \"version\": \"grpc-java %s\"}%n",
        server.getPort(), orders.getLocalPort(), Grpc.class.getPackage().getImplementationVersion());
    System.out.flush();
    server.awaitTermination();
  }

  private static void background(Runnable work) {
    var thread = new Thread(work);
    thread.setDaemon(true);
    thread.start();
  }

  private static void untilTheRunnerIsGone() {
    try {
      while (System.in.read() >= 0) {}
    } catch (IOException gone) {
      // As good as its end.
    }
    Runtime.getRuntime().halt(1);
  }

  private void control(ServerSocket orders) {
    while (true) {
      try {
        Socket socket = orders.accept();
        background(() -> obeyAll(socket));
      } catch (IOException broken) {
        return;
      }
    }
  }

  private void obeyAll(Socket socket) {
    try (socket;
        var lines = new BufferedReader(new InputStreamReader(socket.getInputStream()));
        var answers = new PrintWriter(socket.getOutputStream(), true)) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        answers.print(obey(line) + "\n");
        answers.flush();
      }
    } catch (IOException gone) {
      // Its business.
    }
  }

  private String obey(String line) {
    int at = line.indexOf(' ');
    String order = at < 0 ? line : line.substring(0, at);
    String service = at < 0 ? "" : line.substring(at + 1);
    switch (order) {
      case "serving":
        health.setStatus(service, ServingStatus.SERVING);
        return "ok";
      case "not_serving":
        health.setStatus(service, ServingStatus.NOT_SERVING);
        return "ok";
      case "stop":
        server.shutdown();
        return "ok";
      case "retire":
        health.enterTerminalState();
        server.shutdown();
        return "ok";
      case "seen":
        return seen.tell();
      default:
        return "no such order";
    }
  }

  /** The caller's own metadata, which goes back in headers, and again in trailers. */
  private static void echo(Metadata from, String prefix, Metadata to) {
    for (String name : from.keys()) {
      if (!name.startsWith("x-")) {
        continue;
      }
      String other = prefix + name.substring(2);
      if (name.endsWith("-bin")) {
        var values = from.getAll(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER));
        values.forEach(v -> to.put(Metadata.Key.of(other, Metadata.BINARY_BYTE_MARSHALLER), v));
      } else {
        var values = from.getAll(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
        values.forEach(v -> to.put(Metadata.Key.of(other, Metadata.ASCII_STRING_MARSHALLER), v));
      }
    }
  }

  /** How many attempts the client made before this one, empty on its first. */
  private static String previousAttempts(Metadata headers) {
    String previous = headers.get(PREVIOUS_ATTEMPTS);
    return previous == null ? "" : previous;
  }

  /** What a script reads of a call, and does to it. */
  private record Attempt(int previous, Runnable sendHeaders, Metadata trailers) {}

  /** What the greeter's calls were like. */
  private static final class Seen implements ServerInterceptor {
    private final boolean compresses;
    private int calls;
    private int cancelled;
    private long deadline;
    private Map<String, String> metadata = Map.of();
    private final Set<String> peers = new HashSet<>();
    private final Map<String, Integer> attempts = new TreeMap<>();

    Seen(boolean compresses) {
      this.compresses = compresses;
    }

    synchronized String tell() {
      return String.format(
          "{\"calls\": %d, \"cancelled\": %d, \"connections\": %d, \"deadline_ms\": %d,"
              + " \"metadata\": {%s}, \"attempts\": {%s}}",
          calls,
          cancelled,
          peers.size(),
          deadline,
          members(metadata, "\"%s\": \"%s\""),
          members(attempts, "\"%s\": %s"));
    }

    private static String members(Map<String, ?> of, String format) {
      return of.entrySet().stream()
          .map(member -> String.format(format, member.getKey(), member.getValue()))
          .collect(Collectors.joining(", "));
    }

    private synchronized void began(ServerCall<?, ?> call, Metadata headers) {
      calls++;
      attempts.merge(previousAttempts(headers), 1, Integer::sum);
      peers.add(String.valueOf(call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR)));
      Deadline given = Context.current().getDeadline();
      deadline = given == null ? 0 : given.timeRemaining(TimeUnit.MILLISECONDS);
      metadata = new TreeMap<>();
      for (String name : headers.keys()) {
        if (!name.startsWith("x-")) {
          continue;
        }
        List<String> values = new ArrayList<>();
        if (name.endsWith("-bin")) {
          headers
              .getAll(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER))
              .forEach(value -> values.add(Base64.getEncoder().encodeToString(value)));
        } else {
          headers
              .getAll(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER))
              .forEach(values::add);
        }
        metadata.put(name, String.join(",", values));
      }
    }

    private synchronized void wasCancelled() {
      cancelled++;
    }

    @Override
    public <Q, R> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
      began(call, headers);
      if (compresses) {
        call.setCompression("gzip");
      }
      var scripted = new Metadata();
      var echoing =
          new SimpleForwardingServerCall<Q, R>(call) {
            @Override
            public void sendHeaders(Metadata own) {
              echo(headers, "x-", own);
              super.sendHeaders(own);
            }

            @Override
            public void close(io.grpc.Status status, Metadata own) {
              echo(headers, "x-trailing-", own);
              own.merge(scripted);
              super.close(status, own);
            }
          };
      String previous = previousAttempts(headers);
      var attempt =
          new Attempt(
              previous.isEmpty() ? 0 : Integer.parseInt(previous),
              () -> echoing.sendHeaders(new Metadata()),
              scripted);
      var context = Context.current().withValue(ATTEMPT, attempt);
      var listener = Contexts.interceptCall(context, echoing, headers, next);
      return new SimpleForwardingServerCallListener<Q>(listener) {
        @Override
        public void onMessage(Q message) {
          answering(() -> super.onMessage(message));
        }

        @Override
        public void onHalfClose() {
          answering(super::onHalfClose);
        }

        private void answering(Runnable work) {
          try {
            work.run();
          } catch (StatusRuntimeException failed) {
            var trailers = failed.getTrailers();
            echoing.close(failed.getStatus(), trailers == null ? new Metadata() : trailers);
          }
        }

        @Override
        public void onCancel() {
          wasCancelled();
          super.onCancel();
        }
      };
    }
  }

  private static final class Greeter extends GreeterGrpc.GreeterImplBase {
    private final String name;

    Greeter(String name) {
      this.name = name;
    }

    private HelloReply reply(String message) {
      return HelloReply.newBuilder().setMessage(message).setBackend(name).build();
    }

    /** Does what the name asks for, in this thread. */
    private HelloReply greet(String wish) {
      String order = head(wish);
      String argument = tail(wish);
      switch (order) {
        case "hold":
          untilCancelled();
          throw io.grpc.Status.CANCELLED.asRuntimeException();
        case "slow":
          LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(Long.parseLong(argument)));
          break;
        case "size":
          return reply("x".repeat(Integer.parseInt(argument)));
        case "count":
          return reply(argument.length() + " letters");
        case "fail":
          var status = Status.newBuilder().setCode(Integer.parseInt(argument)).setMessage(DETAILS);
          throw StatusProto.toStatusRuntimeException(
              status.addDetails(Any.pack(reply("detail"))).build());
        case "if":
          if (holds(head(argument))) {
            return greet(tail(argument));
          }
          break;
        case "headers":
          ATTEMPT.get().sendHeaders().run();
          return greet(argument);
        case "pushback":
          ATTEMPT.get().trailers().put(PUSHBACK, head(argument));
          return greet(tail(argument));
        default:
          break;
      }
      return reply("Hello " + wish + "!");
    }

    private static String head(String wish) {
      int at = wish.indexOf(':');
      return at < 0 ? wish : wish.substring(0, at);
    }

    private static String tail(String wish) {
      int at = wish.indexOf(':');
      return at < 0 ? "" : wish.substring(at + 1);
    }

    /** Whether there were fewer attempts before this one, or this backend has the name. */
    private boolean holds(String condition) {
      if (!condition.matches("[0-9]+")) {
        return condition.equals(name);
      }
      return ATTEMPT.get().previous() < Integer.parseInt(condition);
    }

    private static void untilCancelled() {
      var cancelled = new CountDownLatch(1);
      Context.current().addListener(context -> cancelled.countDown(), Runnable::run);
      try {
        cancelled.await();
      } catch (InterruptedException stopped) {
        Thread.currentThread().interrupt();
      }
    }

    @Override
    public void sayHello(HelloRequest request, StreamObserver<HelloReply> replies) {
      replies.onNext(greet(request.getName()));
      replies.onCompleted();
    }

    @Override
    public void sayHelloMany(HelloRequest request, StreamObserver<HelloReply> replies) {
      for (int n = 0; n < request.getCount(); n++) {
        replies.onNext(greet(request.getName()));
      }
      replies.onCompleted();
    }

    /** Replies with how many letters the names have, as they may be large. */
    @Override
    public StreamObserver<HelloRequest> greetAll(StreamObserver<HelloReply> replies) {
      return new Requests(replies) {
        private int names;
        private int letters;

        @Override
        public void onNext(HelloRequest request) {
          greet(request.getName());
          names++;
          letters += request.getName().length();
        }

        @Override
        public void onCompleted() {
          replies.onNext(reply(names + " names of " + letters + " letters"));
          replies.onCompleted();
        }
      };
    }

    @Override
    public StreamObserver<HelloRequest> chat(StreamObserver<HelloReply> replies) {
      return new Requests(replies) {
        @Override
        public void onNext(HelloRequest request) {
          replies.onNext(greet(request.getName()));
        }

        @Override
        public void onCompleted() {
          replies.onCompleted();
        }
      };
    }
  }

  private abstract static class Requests implements StreamObserver<HelloRequest> {
    private final StreamObserver<HelloReply> replies;

    Requests(StreamObserver<HelloReply> replies) {
      this.replies = replies;
    }

    @Override
    public void onError(Throwable cancelled) {
      replies.onError(cancelled);
    }
  }
}
