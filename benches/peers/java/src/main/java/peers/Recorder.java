package peers;

/**
 * Latencies from many callers, in so few histograms that they stay in the cache, and so
 * many that two threads seldom want the same.
 */
final class Recorder {
  private final Histogram[] shards = new Histogram[8];

  Recorder() {
    for (int i = 0; i < shards.length; i++) {
      shards[i] = new Histogram();
    }
  }

  void record(int caller, long nanoseconds) {
    Histogram shard = shards[caller % shards.length];
    synchronized (shard) {
      shard.add(nanoseconds);
    }
  }

  long calls() {
    return total().calls;
  }

  /** In microseconds. */
  double quantile(double part) {
    return total().quantile(part);
  }

  private Histogram total() {
    Histogram total = new Histogram();
    for (Histogram shard : shards) {
      synchronized (shard) {
        total.calls += shard.calls;
        for (int at = 0; at < shard.counts.length; at++) {
          total.counts[at] += shard.counts[at];
        }
      }
    }
    return total;
  }

  /**
   * Nanoseconds to one part in 128: below 256 each is counted by itself, above that each
   * power of two has 128 steps.
   */
  private static final class Histogram {
    static final int STEPS = 128;
    static final int STEP_BITS = 7;
    static final long MOST = (1L << 40) - 1;

    final int[] counts = new int[(40 - 6) * STEPS];
    long calls;

    void add(long nanoseconds) {
      calls++;
      counts[bucket(Math.min(nanoseconds, MOST))]++;
    }

    static int bucket(long value) {
      int bits = 64 - Long.numberOfLeadingZeros(value);
      int shift = Math.max(bits, STEP_BITS + 1) - (STEP_BITS + 1);
      return shift * STEPS + (int) (value >> shift);
    }

    /** The least value of the step. */
    double quantile(double part) {
      long rank = Math.round(part * calls);
      long seen = 0;
      for (int at = 0; at < counts.length; at++) {
        seen += counts[at];
        if (seen >= rank && counts[at] > 0) {
          int shift = Math.max(at / STEPS - 1, 0);
          return ((long) (at - shift * STEPS) << shift) / 1e3;
        }
      }
      return 0;
    }
  }
}
