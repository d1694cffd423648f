#include "hypervisor/runner/machine.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <filesystem>

#include "hypervisor/boot/loader.h"
#include "hypervisor/boot/platform.h"
#include "hypervisor/runner/disk_option.h"
#include "hypervisor/runner/firmware_drives.h"
#include "hypervisor/runner/status_json.h"
#include "tools/options.h"

namespace vhdkit::hypervisor {
namespace {

namespace fs = std::filesystem;

// Hyper-V gives a controller one channel for each processor, and not more than these.
constexpr unsigned max_channels = 8;

// At each end of the memory, for a boot loader.
constexpr uint64_t max_bytes_ahead = uint64_t{64} << 20;

// How long a pause waits for the processors.
constexpr std::chrono::seconds patience{5};

// As text: both ends name files by their whole paths, and neither follows links.
bool is_same(const fs::path& path, const fs::path& other) {
  return path.lexically_normal() == other.lexically_normal();
}

// Of the machine that we are on, those that we may use.
unsigned own_processor_count() {
  cpu_set_t set;
  // A set that is too small for the machine is of one that has enough.
  return sched_getaffinity(0, sizeof set, &set) == 0 ? unsigned(CPU_COUNT(&set)) : CPU_SETSIZE;
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const Kvm& kvm, const MachinePlan& plan,
                                                 Console& console, Voices voices) {
  if (plan.processor_count > kvm.max_processors())
    return fail(Errc::invalid_argument, fmt::format("this KVM runs {} processors at most, not {}",
                                                    kvm.max_processors(), plan.processor_count));
  std::unique_ptr<Machine> machine(new Machine(kvm, plan, console, std::move(voices)));
  TRY(machine->create_parts());
  TRY(machine->attach_disks());
  return machine;
}

Result<void> Machine::create_parts() {
  const unsigned vp_count = plan_.processor_count;
  exits_.resize(vp_count);
  TRY_LET(ram_, GuestRam::create(plan_.memory_bytes));
  begin_loading();
  synic_ = std::make_unique<Synic>(*ram_, vp_count, [this] { storage_->slot_is_free(); });
  registers_ = std::make_unique<Registers>(
      *ram_, *synic_, vp_count,
      Registers::Events{.reset = [this] { end({.end = End::reset, .message = {}}); },
                        .crash = [this](const Crash& crash) { heed(crash); }});
  const unsigned channels = std::min(vp_count, max_channels);
  // An image belongs to one worker: more workers than images would only hand requests over.
  const auto images = unsigned(std::max<size_t>(plan_.disks.size(), 1));
  // The guest's processors want to run, too.
  const unsigned share = std::max(own_processor_count() / 2, 1U);
  TRY_LET(storage_, Storage::create(*ram_, *synic_,
                                    {.controller_count = plan_.controller_count,
                                     .sub_channel_count = channels - 1,
                                     .worker_count = std::min({channels, images, share}),
                                     .undo = plan_.undo,
                                     .log = voices_.warn,
                                     .tell = voices_.tell}));
  TRY_LET(services_, GuestServices::create(storage_->bus(), [this] { return read_time(); }));
  return {};
}

Result<void> Machine::attach_disks() {
  // A guest that cannot start leaves all disks as they are, and what earlier runs have left.
  for (const DiskPlan& disk : plan_.disks) TRY(storage_->check(disk));
  if (plan_.iso) {
    TRY(storage_->check_medium(*plan_.iso));
  }
  if (plan_.undo && loading_.valid() && !loading_.get())
    return std::unexpected(loading_.get().error());
  for (const DiskPlan& disk : plan_.disks) TRY(storage_->attach(disk));
  if (plan_.iso) {
    TRY(storage_->insert_medium(*plan_.iso));
  }
  return {};
}

Result<Ending> Machine::run() {
  for (;;) {
    TRY_LET(Ending ending, run_once());
    if (!starts_again(ending)) return ending;
    ahead_.reset();
    TRY(ram_->clear());
    begin_loading();
  }
}

Result<Ending> Machine::run_once() {
  TRY_LET(const auto partition, Partition::create({.kvm = kvm_,
                                                   .ram = *ram_,
                                                   .synic = *synic_,
                                                   .registers = *registers_,
                                                   .connections = *storage_},
                                                  plan_.processor_count));
  TRY_LET(const int com1_event, partition->pin_event(platform::com1_irq));
  Devices devices(*partition, console_, com1_event);
  has_crash_notice_ = false;
  set_current(partition.get());
  auto ending = run(*partition, devices);
  // Whoever waits for an answer of the guest's holds up everybody else.
  services_->guest_is_off();
  switch_off(devices, *partition);
  return ending;
}

void Machine::switch_off(Devices& devices, Partition& partition) {
  const std::lock_guard lock(operation_);
  devices.disconnect();
  partition.join();
  set_current(nullptr);
  bios_.reset();
  // Channels are closed while what their signals are connected to is still there.
  storage_->reset();
}

bool Machine::starts_again(const Ending& ending) {
  const std::lock_guard lock(mutex_);
  const bool is_wanted = std::exchange(is_reset_from_outside_, false) || plan_.restarts;
  return ending.end == End::reset && is_wanted;
}

Result<Ending> Machine::run(Partition& partition, Devices& devices) {
  const bool has_loader = plan_.kernel == nullptr;
  const auto entry = has_loader ? load_boot_loader(devices) : loading_.get();
  if (has_loader && !entry && entry.error().code == Errc::not_found)
    return Ending{.end = End::no_loader, .message = entry.error().message};
  if (!entry) return std::unexpected(entry.error());
  TRY(partition.start(*entry, devices.ports(), bios_.get()));
  has_run_ = true;
  if (has_loader) take_memory_ahead();
  return partition.wait();
}

Result<Entry> Machine::load_boot_loader(Devices& devices) {
  const std::string& path = plan_.disks.front().path;
  const std::lock_guard lock(operation_);
  auto drives = firmware_drives(*storage_, path);
  if (!drives) return std::unexpected(with_context(drives.error(), path));
  bios_ = std::make_unique<Bios>(Bios::Parts{.ram = *ram_,
                                             .ports = devices.ports(),
                                             .line = devices.screen_line(),
                                             .drives = std::move(*drives),
                                             .vp_count = plan_.processor_count});
  return with_context(bios_->boot(), path);
}

// Beside whatever else has to be done before the guest runs.
void Machine::begin_loading() {
  if (plan_.kernel == nullptr) return;
  loading_ = std::async(std::launch::async, [this] {
    enter(ThreadKind::loader);
    return load_kernel_file();
  });
}

// A loader puts the kernel at the low end of the memory and the initrd at the high one. It moves
// more than it has loaded, and so reads pages that nobody has written: there the host's kernel maps
// a huge page of zeroes, and gives small ones, each at a fault of its own, once they are written.
// Not before the machine's threads are there: what they map for themselves has to wait for these
// pages.
void Machine::take_memory_ahead() {
  const GuestRam::Region& low = ram_->regions().front();
  const uint64_t length = std::min(max_bytes_ahead, low.byte_count / 4);
  ahead_ = std::make_unique<MemoryAhead>(
      std::vector{ram_->range(low.address, length), ram_->range(low.end() - length, length)},
      [] { enter(ThreadKind::loader); });
}

Result<Entry> Machine::load_kernel_file() {
  TRY_LET(const FileContent kernel, plan_.kernel->content());
  FileContent initrd;
  if (plan_.initrd != nullptr) {
    TRY_LET(initrd, plan_.initrd->content());
  }
  return with_context(load_kernel(*ram_, {.kernel = kernel.bytes(),
                                          .initrd = initrd.bytes(),
                                          .command_line = plan_.command_line,
                                          .vp_count = plan_.processor_count}),
                      plan_.kernel->path());
}

void Machine::end(Ending ending) {
  const std::lock_guard lock(mutex_);
  if (current_ != nullptr) current_->end(std::move(ending));
}

void Machine::stop() {
  const std::lock_guard lock(mutex_);
  is_stopped_ = true;
  if (current_ != nullptr) current_->end({.end = End::stopped, .message = {}});
}

void Machine::set_current(Partition* partition) {
  const std::lock_guard lock(mutex_);
  if (current_ != nullptr) {
    const auto counts = current_->exits();
    for (size_t vp = 0; vp < counts.size(); ++vp) add(counts[vp], exits_[vp]);
  }
  current_ = partition;
  powered_on_ = std::chrono::steady_clock::now();
  if (partition != nullptr && is_stopped_) partition->end({.end = End::stopped, .message = {}});
}

// --- from outside ---

Partition* Machine::current() {
  const std::lock_guard lock(mutex_);
  return current_;
}

std::chrono::duration<double> Machine::uptime() {
  const std::lock_guard lock(mutex_);
  return std::chrono::steady_clock::now() - powered_on_;
}

Result<Partition*> Machine::running() {
  Partition* const partition = current();
  if (partition == nullptr) return fail(Errc::busy, "the guest is being switched on or off");
  return partition;
}

// What a guest that stands still is asked it does when nobody expects it any more.
Result<void> Machine::check_can_answer() {
  const std::lock_guard lock(mutex_);
  if (current_ == nullptr) return fail(Errc::busy, "the guest is being switched on or off");
  if (current_->is_paused()) return fail(Errc::busy, "the guest is paused, and does not answer");
  return {};
}

Json Machine::status() {
  const std::lock_guard lock(operation_);
  const Partition* const partition = current();
  const char* state = "starting";
  if (partition != nullptr) state = partition->is_paused() ? "paused" : "running";
  Json disks = Json::array();
  for (const DiskStatus& disk : storage_->disks()) disks.push_back(json_of(disk));
  Json status = {{"state", state},
                 {"uptime-seconds", uptime().count()},
                 {"processors", plan_.processor_count},
                 {"memory", plan_.memory_bytes},
                 {"console", console_.where()},
                 {"sandbox", json_of(plan_.confinement)},
                 {"disks", std::move(disks)},
                 {"services", services_->status()}};
  if (const auto drive = storage_->drive()) status["dvd-drive"] = json_of(*drive);
  return status;
}

Result<void> Machine::pause() {
  const std::lock_guard lock(operation_);
  TRY_LET(Partition* const partition, running());
  TRY(partition->pause(patience));
  services_->paused();
  return {};
}

Result<void> Machine::resume() {
  const std::lock_guard lock(operation_);
  TRY_LET(Partition* const partition, running());
  TRY(partition->resume());
  services_->resumed();
  return {};
}

Result<void> Machine::shut_down(bool restarts) {
  const std::lock_guard lock(operation_);
  TRY(check_can_answer());
  using services::ShutdownKind;
  return services_->shut_down(restarts ? ShutdownKind::restart : ShutdownKind::power_off);
}

Result<void> Machine::power_off() {
  stop();
  return {};
}

Result<void> Machine::reset() {
  const std::lock_guard lock(operation_);
  TRY_LET(Partition* const partition, running());
  {
    const std::lock_guard state_lock(mutex_);
    is_reset_from_outside_ = true;
  }
  partition->end({.end = End::reset, .message = {}});
  return {};
}

// Whoever may use a file wonders why the machine may not.
template <class T>
Result<T> Machine::with_reason(Result<T> result) const {
  if (!result && result.error().code == Errc::permission && plan_.confinement)
    result.error().message +=
        "; in the sandbox the machine has the folders of its disks, and those of --files";
  return result;
}

Result<Json> Machine::add_disk(const std::string& words) {
  TRY_LET(const DiskPlan plan, parse_disk(words));
  const std::lock_guard lock(operation_);
  TRY(with_reason(storage_->check(plan)));
  TRY_LET(const unsigned number, with_reason(storage_->attach(plan)));
  return Json{{"disk", number}};
}

Result<void> Machine::remove_disk(const DiskName& name) {
  const std::lock_guard lock(operation_);
  TRY_LET(const unsigned number, number_of(name));
  return storage_->detach(number);
}

Result<Json> Machine::snapshot(const std::optional<DiskName>& name, bool freezes) {
  const std::lock_guard lock(operation_);
  std::vector<unsigned> numbers;
  if (name) {
    TRY_LET(const unsigned number, number_of(*name));
    numbers.push_back(number);
  }
  TRY_LET(const auto snapshots,
          freezes ? snapshot_frozen(std::move(numbers)) : storage_->snapshot(std::move(numbers)));
  Json list = Json::array();
  for (const Snapshot& one : snapshots)
    list.push_back({{"disk", one.number}, {"filename", one.child}, {"parent", one.parent}});
  return Json{{"snapshots", std::move(list)}};
}

Result<std::vector<Snapshot>> Machine::snapshot_frozen(std::vector<unsigned> numbers) {
  TRY(check_can_answer());
  // What would be refused then does not stop the guest.
  TRY(storage_->check_snapshot(numbers));
  TRY(services_->freeze());
  auto snapshots = storage_->snapshot(std::move(numbers));
  const auto thawed = services_->thaw();
  if (thawed) return snapshots;
  if (snapshots)
    return fail(Errc::io, "the snapshots are there, but may be torn: " + thawed.error().message);
  return fail(snapshots.error().code,
              snapshots.error().message + "; and thawing the guest: " + thawed.error().message);
}

Result<Json> Machine::resize_disk(const DiskName& name, const std::string& size, bool shrinks) {
  image::ResizeOptions options{.size = {}, .shrink = shrinks};
  TRY_LET(options.size, tools::parse_size_change(size));
  const std::lock_guard lock(operation_);
  TRY_LET(const unsigned number, number_of(name));
  TRY_LET(const auto report, with_reason(storage_->resize(number, options)));
  return Json{
      {"disk", number}, {"old-virtual-size", report.old_bytes}, {"virtual-size", report.new_bytes}};
}

Result<void> Machine::insert_media(const std::string& path) {
  const std::lock_guard lock(operation_);
  return with_reason(storage_->insert_medium(path));
}

Result<void> Machine::eject_media() {
  const std::lock_guard lock(operation_);
  return storage_->eject_medium();
}

Result<unsigned> Machine::number_of(const DiskName& name) const {
  for (const DiskStatus& disk : storage_->disks()) {
    if (const auto* const number = std::get_if<uint64_t>(&name)) {
      if (*number == disk.place.number) return disk.place.number;
      continue;
    }
    const auto& path = std::get<std::string>(name);
    if (is_same(path, disk.path) || (disk.undo_of && is_same(path, *disk.undo_of)))
      return disk.place.number;
  }
  if (const auto* const number = std::get_if<uint64_t>(&name))
    return fail(Errc::not_found, fmt::format("there is no disk {}", *number));
  return fail(Errc::not_found, fmt::format("{}: is no disk of this machine; status shows them",
                                           std::get<std::string>(name)));
}

// The two clocks are read one after the other, which takes less than a guest can see.
std::optional<services::TimeReading> Machine::read_time() {
  const std::lock_guard lock(mutex_);
  if (current_ == nullptr || current_->is_paused()) return std::nullopt;
  const auto host_time = services::host_time_now();
  const auto reference_time = current_->reference_time();
  if (!reference_time) return std::nullopt;
  return services::TimeReading{.host_time = host_time, .reference_time = *reference_time};
}

// Kernels that bring the end of their log have come to theirs. Linux before 5.7 brings no log, and
// says the same also where a process of the guest's met a trap.
void Machine::heed(const Crash& crash) {
  if (!crash.message.empty()) return end({.end = End::crash, .message = crash.message});
  if (has_crash_notice_.exchange(true)) return;
  voices_.warn(
      fmt::format("the guest says that its kernel may have given up (parameters {:#x}); it goes on "
                  "as long as it can",
                  fmt::join(crash.parameters, ", ")));
}

void Machine::ask_to_power_off() {
  const auto note = [this](const Result<void>& asked) {
    if (!asked) voices_.warn("the guest cannot be asked to power off: " + asked.error().message);
  };
  if (auto can_answer = check_can_answer(); !can_answer) return note(can_answer);
  services_->begin_shut_down(services::ShutdownKind::power_off, note);
}

Result<void> Machine::close() {
  services_->close();
  return has_run_ ? storage_->close() : storage_->abandon();
}

std::string Machine::report() { return counters().dump(2); }

std::vector<ExitCounts> Machine::exits_so_far() {
  const std::lock_guard lock(mutex_);
  std::vector<ExitCounts> exits = exits_;
  if (current_ == nullptr) return exits;
  const auto counts = current_->exits();
  for (size_t vp = 0; vp < counts.size(); ++vp) add(counts[vp], exits[vp]);
  return exits;
}

Json Machine::counters() {
  const std::lock_guard operation_lock(operation_);
  const std::vector<ExitCounts> exits = exits_so_far();
  ExitCounts of_all{};
  Json processors = Json::array();
  for (const ExitCounts& counts : exits) {
    add(counts, of_all);
    processors.push_back({{"exits", json_of(counts)}});
  }
  Json report = {{"exits", json_of(of_all)}, {"processors", std::move(processors)}};
  report["controllers"] = storage_->report();
  report["services"] = services_->status();
  report["sandbox"] = json_of(plan_.confinement);
  return report;
}

}  // namespace vhdkit::hypervisor
