// Latencies of one thread.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

// Nanoseconds to one part in 128: below 256 each is counted by itself, above that each
// power of two has 128 steps.
class Histogram {
 public:
  void add(uint64_t nanoseconds) {
    ++calls_;
    ++counts_[bucket(std::min(nanoseconds, (uint64_t{1} << 40) - 1))];
  }

  void add(const Histogram& other) {
    calls_ += other.calls_;
    for (std::size_t at = 0; at < counts_.size(); ++at) counts_[at] += other.counts_[at];
  }

  uint64_t calls() const { return calls_; }

  // In microseconds; the least value of the step.
  double quantile(double part) const {
    const auto rank = static_cast<uint64_t>(std::llround(part * calls_));
    uint64_t seen = 0;
    for (std::size_t at = 0; at < counts_.size(); ++at) {
      seen += counts_[at];
      if (seen >= rank && counts_[at] > 0) {
        const std::size_t shift = std::max(at / kSteps, std::size_t{1}) - 1;
        return static_cast<double>((at - shift * kSteps) << shift) / 1e3;
      }
    }
    return 0;
  }

 private:
  static constexpr std::size_t kSteps = 128;
  static constexpr int kStepBits = 7;

  static std::size_t bucket(uint64_t value) {
    const int bits = 64 - __builtin_clzll(value | 1);
    const int shift = std::max(bits, kStepBits + 1) - (kStepBits + 1);
    return shift * kSteps + (value >> shift);
  }

  uint64_t calls_ = 0;
  std::array<uint32_t, (40 - 6) * kSteps> counts_{};
};
