// The guest's side of bench/vsp.py: requests through the rings of a storage controller, one line of
// JSON about them.
#include <fmt/format.h>
#include <sched.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "image/image.h"
#include "support/checked.h"
#include "tests/vsp/guest.h"
#include "tests/vsp/local_channel.h"
#include "tests/vsp/shared_memory_disk.h"
#include "vsp-storage/scsi/disk_unit.h"

namespace vhdkit::bench {
namespace {

using Clock = std::chrono::steady_clock;
using tests::Bytes;
using tests::GuestBuffer;
using tests::GuestChannel;
using tests::GuestRing;

struct Load {
  std::string image;  // empty: a disk in memory
  uint64_t ram_bytes = 1 << 30;
  bool is_direct = false;
  unsigned channel_count = 1;
  unsigned worker_count = 1;
  unsigned depth = 32;
  uint32_t size_bytes = 4096;
  bool writes = false;
  bool is_random = false;
  uint64_t count = 100'000;  // of each channel
  bool is_alone = false;
  bool is_paired = false;
};

double seconds_of(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return double(time.tv_sec) + double(time.tv_nsec) / 1e9;
}

void pin_to(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  sched_setaffinity(0, sizeof set, &set);
}

// A packet with a READ(16) or WRITE(16) in it, and where that one begins.
Bytes transfer_packet(const Load& load) {
  Bytes cdb(16);
  cdb[0] = load.writes ? std::byte{0x8a} : std::byte{0x88};
  const be32 blocks = load.size_bytes / 512;
  std::memcpy(cdb.data() + 10, &blocks, sizeof blocks);
  return GuestChannel::srb({}, cdb, load.writes ? GuestChannel::write : GuestChannel::read,
                           load.size_bytes);
}
void set_place(Bytes& packet, uint64_t disk_offset) {
  constexpr size_t cdb_at = 28;
  const be64 block = disk_offset / 512;
  std::memcpy(packet.data() + cdb_at + 2, &block, sizeof block);
}

// Keeps `depth` requests in flight, and looks for completions without sleeping: what is measured is
// the host. Where they share a processor it gives way to the host when there are none.
class Driver {
 public:
  Driver(tests::Guest& guest, GuestChannel& channel, const Load& load, uint64_t disk_bytes,
         uint64_t seed)
      : channel_(channel),
        load_(load),
        place_count_(disk_bytes / load.size_bytes),
        random_(seed),
        packet_(transfer_packet(load)) {
    for (unsigned i = 0; i < load.depth; ++i) {
      const GuestBuffer buffer = guest.take_buffer(load.size_bytes);
      std::vector<uint64_t> descriptor{uint64_t{1} << 32, load.size_bytes};
      descriptor.insert(descriptor.end(), buffer.pages.begin(), buffer.pages.end());
      descriptors_.push_back(std::move(descriptor));
    }
  }

  void run() {
    uint64_t sent = 0;
    uint64_t received = 0;
    begin_ = channel_.outgoing().word(GuestRing::write_index);
    for (; sent < std::min<uint64_t>(load_.depth, load_.count); ++sent) put(sent);
    publish();
    while (received < load_.count) {
      const unsigned count = take();
      received += count;
      for (unsigned i = 0; i < count && sent < load_.count; ++i, ++sent) put(free_[i]);
      if (count > 0) {
        publish();
      } else if (load_.is_paired) {
        sched_yield();
      }
    }
  }

 private:
  void put(uint64_t slot) {
    set_place(packet_, next_place() * load_.size_bytes);
    begin_ = channel_.outgoing().put_packet(
        begin_, {.type = 9,
                 .transaction_id = slot,
                 .descriptor = std::as_bytes(std::span(descriptors_[slot])),
                 .payload = packet_});
  }

  uint64_t next_place() {
    return load_.is_random ? random_() % place_count_ : next_++ % place_count_;
  }

  void publish() {
    const GuestRing& ring = channel_.outgoing();
    const uint32_t old = ring.word(GuestRing::write_index);
    ring.set_word(GuestRing::write_index, begin_);
    if (ring.word(GuestRing::interrupt_mask) == 0 && ring.word(GuestRing::read_index) == old)
      channel_.signal();
  }

  // Which slots have come back.
  unsigned take() {
    const GuestRing& ring = channel_.incoming();
    uint32_t at = ring.word(GuestRing::read_index);
    const uint32_t end = ring.word(GuestRing::write_index);
    unsigned count = 0;
    while (at != end) {
      uint64_t header[2];
      ring.get(at, std::as_writable_bytes(std::span(header)));
      uint16_t statuses = 0;
      ring.get(ring.after(at, 16 + 14), std::as_writable_bytes(std::span(&statuses, 1)));
      if (statuses != 1) std::abort();  // a request failed
      free_[count++] = header[1];
      at = ring.after(at, (header[0] >> 32 & 0xffff) * 8 + 8);
    }
    if (count > 0) ring.set_word(GuestRing::read_index, end);
    return count;
  }

  GuestChannel& channel_;
  const Load& load_;
  uint64_t place_count_;
  std::mt19937_64 random_;
  Bytes packet_;
  std::vector<std::vector<uint64_t>> descriptors_;
  std::array<uint64_t, 1024> free_;
  uint32_t begin_ = 0;
  uint64_t next_ = 0;
};

// The disk behind the unit, and how to let go of it.
struct Subject {
  std::shared_ptr<disk::Disk> disk;
  std::shared_ptr<image::Image> image;
};

Async<void> open_image(async::Loop& loop, const Load& load, Subject& subject) {
  const image::OpenOptions options{.writable = load.writes, .direct = load.is_direct};
  CO_TRY_LET(auto image, co_await image::Image::open(loop, load.image, options));
  subject.image = std::move(image);
  subject.disk = std::shared_ptr<disk::Disk>(subject.image, &subject.image->disk());
  co_return Result<void>();
}

Result<Subject> open_subject(tests::Host& host, const Load& load) {
  Subject subject;
  if (load.image.empty()) {
    subject.disk = std::make_shared<tests::SharedMemoryDisk>(load.ram_bytes);
    return subject;
  }
  storvsp::Worker& worker = host.worker(0);
  TRY(worker.await([&] { return open_image(worker.loop(), load, subject); }));
  return subject;
}

// On the worker's thread, whose loop the image is bound to.
Result<void> close_subject(tests::Host& host, Subject& subject) {
  if (subject.image == nullptr) return {};
  storvsp::Worker& worker = host.worker(0);
  auto closed = worker.await([&] { return subject.image->disk().close(); });
  worker.run([&] { subject = Subject(); });
  return closed;
}

double cpu_of_workers(tests::Host& host, const Load& load) {
  double sum = 0;
  for (unsigned i = 0; i < load.worker_count; ++i)
    host.worker(i).run([&] { sum += seconds_of(CLOCK_THREAD_CPUTIME_ID); });
  return sum;
}

std::vector<std::unique_ptr<GuestChannel>> open_channels(tests::Guest& guest, const Load& load) {
  const auto offers = guest.connect();
  std::vector<std::unique_ptr<GuestChannel>> channels;
  channels.push_back(guest.open(offers.at(0)));
  channels[0]->initialize();
  channels[0]->execute({}, Bytes(6));  // takes the unit attention away
  if (load.channel_count == 1) return channels;
  tests::Fields create(64);
  create.set(0, uint32_t{13}).set(12, uint16_t(load.channel_count - 1));
  channels[0]->exchange(create.bytes());
  for (unsigned i = 1; i < load.channel_count; ++i)
    channels.push_back(guest.open(guest.take_offer(), i));
  return channels;
}

struct Measured {
  double seconds;
  double server_cpu_s;
  uint64_t signals;
};

// Channel i is served by worker i. In pairs each has a processor to share with its guest; else the
// guest has one and the host the other one.
void place_workers(tests::Host& host, const Load& load) {
  if (!load.is_paired) return host.worker(0).run([] { pin_to(1); });
  for (unsigned i = 0; i < load.worker_count; ++i) host.worker(i).run([i] { pin_to(int(i)); });
}

Measured drive(tests::Host& host, std::vector<std::unique_ptr<Driver>>& drivers, const Load& load) {
  const uint64_t signals = host.interrupts.signal_count();
  const double cpu = cpu_of_workers(host, load);
  const Clock::time_point start = Clock::now();
  std::vector<std::thread> threads;
  for (size_t i = 1; i < drivers.size(); ++i) {
    threads.emplace_back([&, i] {
      if (load.is_paired) pin_to(int(i));
      drivers[i]->run();
    });
  }
  drivers[0]->run();
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return {.seconds = seconds,
          .server_cpu_s = cpu_of_workers(host, load) - cpu,
          .signals = host.interrupts.signal_count() - signals};
}

Result<void> run(const Load& load) {
  const uint64_t pages_of_a_channel =
      2 * GuestChannel::ring_pages + load.depth * ceil_div(load.size_bytes, 4096);
  tests::Host host({.page_count = 64 + load.channel_count * pages_of_a_channel,
                    .worker_count = load.worker_count,
                    .controller = {.max_sub_channel_count = uint16_t(load.channel_count - 1),
                                   .queue_depth = std::max(load.depth, 256U)}});
  place_workers(host, load);
  TRY_LET(Subject subject, open_subject(host, load));
  TRY(host.attach(0, std::make_shared<scsi::DiskUnit>(scsi::DiskUnitOptions()), subject.disk));
  const uint64_t disk_bytes = subject.disk->geometry().size_bytes;
  tests::Guest guest(host);
  const auto channels = open_channels(guest, load);
  std::vector<std::unique_ptr<Driver>> drivers;
  for (size_t i = 0; i < channels.size(); ++i)
    drivers.push_back(std::make_unique<Driver>(guest, *channels[i], load, disk_bytes, i));
  pin_to(0);
  const Measured measured = drive(host, drivers, load);
  const double requests = double(load.count * load.channel_count);
  const nlohmann::ordered_json report = {
      {"requests-per-second", requests / measured.seconds},
      {"cpu-microseconds-per-request", measured.server_cpu_s * 1e6 / requests},
      {"signals-per-request", double(measured.signals) / requests},
      {"report", host.report()}};
  fmt::print("{}\n", report.dump());
  TRY(host.detach(0));
  return close_subject(host, subject);
}

// What the host does for requests of a page that lie in the ring, and nothing beside it.
async::Task<void> serve_alone(storvsp::Worker& worker, const Load& load, Clock::duration& spent) {
  tests::LocalChannel local(worker, {}, load.depth);
  local.attach(0, std::make_shared<scsi::DiskUnit>(scsi::DiskUnitOptions()),
               std::make_shared<tests::SharedMemoryDisk>(load.ram_bytes));
  local.channel().serve();
  std::mt19937_64 random(1);
  Bytes packet = transfer_packet(load);
  for (uint64_t sent = 0; sent < load.count; sent += load.depth) {
    for (unsigned i = 0; i < load.depth; ++i) {
      set_place(packet, random() % (load.ram_bytes / load.size_bytes) * load.size_bytes);
      local.send_with_page(i, tests::LocalChannel::first_data_page + i, load.size_bytes, packet);
    }
    const Clock::time_point begin = Clock::now();
    local.channel().serve();
    spent += Clock::now() - begin;
    local.collect();
  }
  [[maybe_unused]] const auto closed = co_await local.channel().close();
}

Result<void> run_alone(const Load& load) {
  TRY_LET(const auto loop, async::Loop::create());
  storvsp::Worker worker(*loop);
  Clock::duration spent{};
  loop->run(serve_alone(worker, load, spent));
  const double microseconds = std::chrono::duration<double, std::micro>(spent).count();
  const nlohmann::ordered_json report = {
      {"cpu-microseconds-per-request", microseconds / double(load.count)}};
  fmt::print("{}\n", report.dump());
  return {};
}

int main_of(int argument_count, char** arguments) {
  Load load;
  CLI::App app("Requests through a storage controller's channels, from a guest in this process.");
  app.add_option("--image", load.image, "an image; without it a disk in memory");
  app.add_option("--ram", load.ram_bytes, "bytes of the disk in memory")->capture_default_str();
  app.add_flag("--direct", load.is_direct, "past the page cache");
  app.add_option("--channels", load.channel_count, "channels")->capture_default_str();
  app.add_option("--workers", load.worker_count, "threads that serve them")->capture_default_str();
  app.add_option("--depth", load.depth, "requests in flight, of each channel")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--size", load.size_bytes, "bytes of each request")->capture_default_str();
  app.add_option("--count", load.count, "requests of each channel")->capture_default_str();
  app.add_flag("--write", load.writes, "write; else read");
  app.add_flag("--random", load.is_random, "anywhere; else one after the other");
  app.add_flag("--pairs", load.is_paired,
               "the guest and the worker of each channel share a processor");
  app.add_flag("--alone", load.is_alone,
               "only what the host's side costs: one thread, a page each, a disk in memory");
  CLI11_PARSE(app, argument_count, arguments);
  const auto done = load.is_alone ? run_alone(load) : run(load);
  if (done) return 0;
  fmt::print(stderr, "vsp_bench: {}\n", done.error().message);
  return 1;
}

}  // namespace
}  // namespace vhdkit::bench

int main(int argument_count, char** arguments) {
  return vhdkit::bench::main_of(argument_count, arguments);
}
