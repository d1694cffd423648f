#include "vmbus/gpadls.h"

#include <iterator>
#include <string>

#include "support/checked.h"
#include "vmbus/messages.h"

namespace vhdkit::vmbus {
namespace {

// Of one range: its byte count and offset, then 8 bytes for each page.
constexpr size_t range_header_bytes = 8;

std::unexpected<Error> refuse(uint32_t gpadl, const std::string& what) {
  return fail(Errc::invalid_argument, "GPADL " + std::to_string(gpadl) + ": " + what);
}

Result<size_t> page_count_of(const GpadlHeader& header) {
  const uint32_t gpadl = header.gpadl;
  if (header.range_count != 1)
    return fail(Errc::unsupported, "GPADL " + std::to_string(gpadl) + ": " +
                                       std::to_string(header.range_count) + " ranges; it has one");
  const size_t range_bytes = header.range_bytes;
  if (range_bytes <= range_header_bytes || !is_aligned(range_bytes, sizeof(le64)))
    return refuse(gpadl, "its range is described by " + std::to_string(range_bytes) + " bytes");
  const size_t count = (range_bytes - range_header_bytes) / sizeof(le64);
  const uint64_t end = uint64_t{header.byte_offset} + uint64_t{header.byte_count};
  if (header.byte_offset >= GuestMemory::page_bytes ||
      ceil_div(end, GuestMemory::page_bytes) != count)
    return refuse(gpadl, std::to_string(header.byte_count) + " bytes from " +
                             std::to_string(header.byte_offset) + " on do not take " +
                             std::to_string(count) + " pages");
  return count;
}

}  // namespace

Result<bool> Gpadls::begin(std::span<const std::byte> message) {
  const auto header = load<GpadlHeader>(message);
  if (!header) return fail(Errc::invalid_argument, "a GPADL header is cut off");
  const uint32_t gpadl = header->gpadl;
  TRY_LET(const size_t count, page_count_of(*header));
  TRY(check_room(gpadl, count));
  Growing growing{.list = {.relid = header->relid,
                           .byte_offset = header->byte_offset,
                           .byte_count = header->byte_count,
                           .pages = {}},
                  .page_count = count};
  page_count_ += count;
  const auto list = lists_.emplace(gpadl, std::move(growing)).first;
  return append(list, message.subspan(sizeof(GpadlHeader)));
}

Result<void> Gpadls::check_room(uint32_t gpadl, size_t page_count) const {
  if (lists_.contains(gpadl)) return refuse(gpadl, "there is one with that number already");
  if (lists_.size() < limits_.gpadl_count && page_count <= limits_.page_count - page_count_)
    return {};
  return fail(Errc::no_space, "GPADL " + std::to_string(gpadl) + " of " +
                                  std::to_string(page_count) + " pages: there are " +
                                  std::to_string(lists_.size()) + " with " +
                                  std::to_string(page_count_) + " pages, and more are not kept");
}

Result<bool> Gpadls::add(std::span<const std::byte> message) {
  const auto body = load<GpadlBody>(message);
  if (!body) return fail(Errc::invalid_argument, "a GPADL body is cut off");
  const auto list = lists_.find(body->gpadl);
  if (list == lists_.end() || list->second.is_complete())
    return fail(Errc::not_found,
                "GPADL " + std::to_string(body->gpadl) + ": nothing waits for more of its pages");
  return append(list, message.subspan(sizeof(GpadlBody)));
}

Result<bool> Gpadls::append(Lists::iterator list, std::span<const std::byte> numbers) {
  auto looked_up = look_up_into(list->second, numbers);
  if (looked_up) return list->second.is_complete();
  forget(list);
  return std::unexpected(std::move(looked_up).error());
}

Result<void> Gpadls::look_up_into(Growing& growing, std::span<const std::byte> numbers) {
  const size_t missing = growing.page_count - growing.list.pages.size();
  std::vector<uint64_t> page_numbers;
  for (size_t at = 0; page_numbers.size() < missing; at += sizeof(le64)) {
    const auto number = load<le64>(numbers, at);
    if (!number) break;
    page_numbers.push_back(*number);
  }
  if (page_numbers.empty())
    return fail(Errc::invalid_argument, "a message of a GPADL has no page in it");
  TRY_LET(const PageList pages, look_up(memory_, page_numbers));
  growing.list.pages.insert(growing.list.pages.end(), pages.begin(), pages.end());
  return {};
}

const Gpadl* Gpadls::find(uint32_t gpadl) const {
  const auto list = lists_.find(gpadl);
  return list != lists_.end() && list->second.is_complete() ? &list->second.list : nullptr;
}

std::optional<uint32_t> Gpadls::relid_of(uint32_t gpadl) const {
  const auto list = lists_.find(gpadl);
  if (list == lists_.end()) return std::nullopt;
  return list->second.list.relid;
}

Result<void> Gpadls::tear_down(uint32_t gpadl) {
  const auto list = lists_.find(gpadl);
  if (list == lists_.end())
    return fail(Errc::not_found, "GPADL " + std::to_string(gpadl) + ": there is none");
  forget(list);
  return {};
}

void Gpadls::tear_down_all_of(uint32_t relid) {
  for (auto list = lists_.begin(); list != lists_.end();) {
    const auto next = std::next(list);
    if (list->second.list.relid == relid) forget(list);
    list = next;
  }
}

void Gpadls::tear_down_all() {
  lists_.clear();
  page_count_ = 0;
}

void Gpadls::forget(Lists::iterator list) {
  page_count_ -= list->second.page_count;
  lists_.erase(list);
}

}  // namespace vhdkit::vmbus
