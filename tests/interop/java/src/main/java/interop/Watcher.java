package interop;

import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.logging.Level;
import java.util.logging.Logger;

/**
 * A client on grpc-java that watches the health of a server. {@code tests/interop/README.md} has
 * what it prints.
 */
public final class Watcher {
  /** Writes a line for each failed connection, which a stopped server causes. */
  private static final Logger LOG = Logger.getLogger("io.grpc");

  private final String address;
  private final String service;

  private Watcher(String address, String service) {
    this.address = address;
    this.service = service;
  }

  public static void main(String[] arguments) throws Exception {
    LOG.setLevel(Level.OFF);
    Map<String, String> given = new HashMap<>();
    for (int at = 0; at + 1 < arguments.length; at += 2) {
      given.put(arguments[at], arguments[at + 1]);
    }
    say("version grpc-java " + Grpc.class.getPackage().getImplementationVersion());
    for (String service : given.get("--services").split(",")) {
      var watcher = new Watcher(given.get("--address"), service);
      background(watcher::watch);
      background(watcher::follow);
    }
    while (System.in.read() >= 0) {
      // Until the runner has ended.
    }
    Runtime.getRuntime().halt(0);
  }

  private static void background(Runnable work) {
    var thread = new Thread(work);
    thread.setDaemon(true);
    thread.start();
  }

  private static synchronized void say(String line) {
    System.out.println(line);
    System.out.flush();
  }

  private ManagedChannelBuilder<?> channel() {
    return Grpc.newChannelBuilder(address, InsecureChannelCredentials.create());
  }

  /** Prints each message of a {@code Watch}, and the code of its end. */
  private void watch() {
    var stub = HealthGrpc.newBlockingStub(channel().build()).withWaitForReady();
    var request = HealthCheckRequest.newBuilder().setService(service).build();
    try {
      stub.watch(request)
          .forEachRemaining(response -> say(service + " watch " + response.getStatus()));
      say(service + " watch end " + Status.Code.OK.value());
    } catch (StatusRuntimeException end) {
      say(service + " watch end " + end.getStatus().getCode().value());
    }
  }

  /**
   * Prints each state of a channel with health checks that decides about calls, with the code of a
   * call in that state. The round_robin of grpc-services has the health checks (gRFC A17).
   */
  private void follow() {
    ManagedChannel channel =
        channel()
            .defaultServiceConfig(
                Map.of(
                    "loadBalancingConfig", List.of(Map.of("round_robin", Map.of())),
                    "healthCheckConfig", Map.of("serviceName", service)))
            .build();
    while (true) {
      ConnectivityState state = channel.getState(true);
      if (state == ConnectivityState.READY || state == ConnectivityState.TRANSIENT_FAILURE) {
        say(service + " channel " + state + " " + call(channel).value());
      }
      var changed = new CountDownLatch(1);
      channel.notifyWhenStateChanged(state, changed::countDown);
      try {
        changed.await();
      } catch (InterruptedException stopped) {
        return;
      }
    }
  }

  private static Status.Code call(ManagedChannel channel) {
    try {
      HealthGrpc.newBlockingStub(channel).check(HealthCheckRequest.getDefaultInstance());
      return Status.Code.OK;
    } catch (StatusRuntimeException failed) {
      return failed.getStatus().getCode();
    }
  }
}
