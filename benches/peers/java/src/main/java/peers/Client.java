package peers;

import com.sun.management.OperatingSystemMXBean;
import demo.v1.GreeterGrpc;
import demo.v1.GreeterGrpc.GreeterStub;
import demo.v1.GreeterOuterClass.HelloReply;
import demo.v1.GreeterOuterClass.HelloRequest;
import io.grpc.ConnectivityState;
import io.grpc.EquivalentAddressGroup;
import io.grpc.ManagedChannel;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.StatusOr;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollSocketChannel;
import io.grpc.stub.StreamObserver;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

/**
 * A load client on grpc-java: round_robin, with the health check of grpc-services. The
 * README of benches/peers has the protocol.
 *
 * <p>Callers are callbacks: each begins its next call where its last one ended, on the
 * thread of the event loop. There is no executor between.
 */
public final class Client {
  private static final int PAYLOAD = 64;

  /**
   * What a service config in JSON is to grpc-java, which does not read JSON here. `main`
   * compares it with what it is given.
   */
  private static final String SERVICE_CONFIG =
      "{\"loadBalancingConfig\":[{\"round_robin\":{}}],"
          + "\"healthCheckConfig\":{\"serviceName\":\"\"}}";

  private static final Map<String, ?> PARSED =
      Map.of(
          "loadBalancingConfig", List.of(Map.of("round_robin", Map.of())),
          "healthCheckConfig", Map.of("serviceName", ""));

  private static final OperatingSystemMXBean SYSTEM =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 3 || !arguments[2].equals(SERVICE_CONFIG)) {
      fail("usage: client ADDRESS,ADDRESS,… THREADS " + SERVICE_CONFIG);
    }
    List<EquivalentAddressGroup> backends = new ArrayList<>();
    for (String address : arguments[0].split(",")) {
      int colon = address.lastIndexOf(':');
      backends.add(
          new EquivalentAddressGroup(
              new InetSocketAddress(
                  address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)))));
    }
    NameResolverRegistry.getDefaultRegistry().register(new Listed(backends));
    ManagedChannel channel =
        NettyChannelBuilder.forTarget("listed:///backends")
            .defaultServiceConfig(PARSED)
            .usePlaintext()
            .directExecutor()
            .eventLoopGroup(new EpollEventLoopGroup(Integer.parseInt(arguments[1])))
            .channelType(EpollSocketChannel.class)
            .build();
    awaitReady(channel);
    System.out.printf(
        "{\"version\":\"%s (OpenJDK %s)\"}%n",
        grpcVersion(), System.getProperty("java.version"));
    GreeterStub stub = GreeterGrpc.newStub(channel);
    BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
    for (String line = orders.readLine(); line != null; line = orders.readLine()) {
      String[] words = line.split(" ");
      if (words.length != 3 || !words[0].equals("run")) {
        fail("`" + line + "` is no order");
      }
      System.out.println(
          run(stub, Integer.parseInt(words[1]), Long.parseLong(words[2]) * 1_000_000));
    }
    System.exit(0);
  }

  static void fail(String why) {
    System.err.println(why);
    System.exit(1);
  }

  private static void awaitReady(ManagedChannel channel) throws InterruptedException {
    ConnectivityState state = channel.getState(true);
    while (state != ConnectivityState.READY) {
      CountDownLatch changed = new CountDownLatch(1);
      channel.notifyWhenStateChanged(state, changed::countDown);
      changed.await();
      state = channel.getState(true);
    }
  }

  /** As the jar on the class path calls itself. */
  private static String grpcVersion() {
    String path = ManagedChannel.class.getProtectionDomain().getCodeSource().getLocation().getPath();
    return path.replaceFirst(".*grpc-api-(.*)\\.jar", "$1");
  }

  private static String run(GreeterStub stub, int concurrency, long nanoseconds)
      throws InterruptedException {
    long cpu = SYSTEM.getProcessCpuTime();
    long started = System.nanoTime();
    CountDownLatch done = new CountDownLatch(concurrency);
    Recorder recorder = new Recorder();
    for (int number = 0; number < concurrency; number++) {
      new Caller(stub, recorder, number, started + nanoseconds, done).call();
    }
    done.await();
    long elapsed = System.nanoTime() - started;
    cpu = SYSTEM.getProcessCpuTime() - cpu;
    return String.format(
        Locale.ROOT,
        "{\"calls\":%d,\"failures\":0,\"elapsed_us\":%d,\"cpu_us\":%d,"
            + "\"p50_us\":%.1f,\"p99_us\":%.1f}",
        recorder.calls(),
        elapsed / 1000,
        cpu / 1000,
        recorder.quantile(0.5),
        recorder.quantile(0.99));
  }

  /** One call after another. The first that fails ends the program. */
  private static final class Caller implements StreamObserver<HelloReply> {
    private static final HelloRequest REQUEST =
        HelloRequest.newBuilder().setName("x".repeat(PAYLOAD)).build();

    private final GreeterStub stub;
    private final Recorder recorder;
    private final int number;
    private final long until;
    private final CountDownLatch done;
    private long started = System.nanoTime();

    Caller(GreeterStub stub, Recorder recorder, int number, long until, CountDownLatch done) {
      this.stub = stub;
      this.recorder = recorder;
      this.number = number;
      this.until = until;
      this.done = done;
    }

    void call() {
      stub.sayHello(REQUEST, this);
    }

    @Override
    public void onNext(HelloReply reply) {
      if (reply.getMessage().length() != PAYLOAD) {
        fail("a reply was cut");
      }
    }

    @Override
    public void onError(Throwable error) {
      fail(error.toString());
    }

    @Override
    public void onCompleted() {
      long ended = System.nanoTime();
      recorder.record(number, ended - started);
      if (ended - until >= 0) {
        done.countDown();
        return;
      }
      started = ended;
      call();
    }
  }

  /** The name `listed:///…`, whatever follows, is these backends. */
  private static final class Listed extends NameResolverProvider {
    private final List<EquivalentAddressGroup> backends;

    Listed(List<EquivalentAddressGroup> backends) {
      this.backends = backends;
    }

    @Override
    public NameResolver newNameResolver(URI target, NameResolver.Args args) {
      return new NameResolver() {
        @Override
        public String getServiceAuthority() {
          return "backends";
        }

        @Override
        public void start(Listener2 listener) {
          listener.onResult(
              ResolutionResult.newBuilder()
                  .setAddressesOrError(StatusOr.fromValue(backends))
                  .build());
        }

        @Override
        public void shutdown() {}
      };
    }

    @Override
    public String getDefaultScheme() {
      return "listed";
    }

    @Override
    protected boolean isAvailable() {
      return true;
    }

    @Override
    protected int priority() {
      return 5;
    }
  }
}
