#include <nlohmann/json.hpp>

#include "vsp-storage/storvsp/controller.h"
#include "vsp-storage/storvsp/port.h"

namespace vhdkit::storvsp {
namespace {

using Json = nlohmann::ordered_json;

// Sums over the workers, each of which counts for itself.
class HistogramSum {
 public:
  void add(const Histogram& histogram) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += histogram.count(i);
  }
  // What was seen, each with the number that all of it is below.
  Json json() const {
    Json list = Json::array();
    for (size_t i = 0; i < counts_.size(); ++i)
      if (counts_[i] > 0) list.push_back({{"below", uint64_t{1} << i}, {"count", counts_[i]}});
    return list;
  }

 private:
  std::array<uint64_t, Histogram::entry_count> counts_{};
};

HistogramSum sum_of(const Histogram& histogram) {
  HistogramSum sum;
  sum.add(histogram);
  return sum;
}

Json json_of(const ChannelCounters& counters) {
  return {{"packets", counters.packets.value()},
          {"signals", counters.signals.value()},
          {"wakes", counters.wakes.value()},
          {"spurious-wakes", counters.spurious_wakes.value()},
          {"ring-full", counters.ring_full.value()},
          {"batches", sum_of(counters.batches).json()}};
}

Json json_of(unsigned lun, const std::vector<const UnitCounters*>& of_workers) {
  uint64_t requests = 0;
  uint64_t errors = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  HistogramSum read_latency_us;
  HistogramSum write_latency_us;
  HistogramSum latency_us;  // of all
  for (const UnitCounters* const counters : of_workers) {
    requests += counters->requests.value();
    errors += counters->errors.value();
    bytes_read += counters->bytes_read.value();
    bytes_written += counters->bytes_written.value();
    read_latency_us.add(counters->read_latency_us);
    write_latency_us.add(counters->write_latency_us);
    for (const Histogram* const one :
         {&counters->read_latency_us, &counters->write_latency_us, &counters->other_latency_us})
      latency_us.add(*one);
  }
  return {{"lun", lun},
          {"requests", requests},
          {"errors", errors},
          {"bytes-read", bytes_read},
          {"bytes-written", bytes_written},
          {"latency-us", latency_us.json()},
          {"read-latency-us", read_latency_us.json()},
          {"write-latency-us", write_latency_us.json()}};
}

}  // namespace

Json Controller::report() const {
  Json channels = Json::array();
  for (const auto& [index, port] : ports_) {
    Json channel = {{"index", index}, {"open", port->channel() != nullptr}};
    if (port->channel() != nullptr) channel.update(json_of(port->channel()->counters()));
    channels.push_back(std::move(channel));
  }
  Json units = Json::array();
  for (unsigned lun = 0; lun < max_units; ++lun) {
    std::vector<const UnitCounters*> of_workers;
    for (const UnitTable& table : tables_)
      if (const auto& access = table[lun]) of_workers.push_back(access->counters.get());
    if (!of_workers.empty()) units.push_back(json_of(lun, of_workers));
  }
  return {{"channels", std::move(channels)}, {"units", std::move(units)}};
}

}  // namespace vhdkit::storvsp
