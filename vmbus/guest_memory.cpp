#include "vmbus/guest_memory.h"

#include <atomic>
#include <cassert>
#include <cstring>
#include <string>

namespace vhdkit::vmbus {
namespace {

constexpr size_t word_bytes = sizeof(uint64_t);

bool is_whole_words(const std::byte* guest, size_t length) {
  return reinterpret_cast<uintptr_t>(guest) % word_bytes == 0 && length % word_bytes == 0;
}

std::atomic_ref<uint64_t> word_at(std::byte* guest) {
  return std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(guest));
}

}  // namespace

Result<PageList> look_up(GuestMemory& memory, std::span<const uint64_t> page_numbers) {
  PageList pages;
  pages.reserve(page_numbers.size());
  for (const uint64_t number : page_numbers) {
    std::byte* const page = memory.page(number);
    if (page == nullptr)
      return fail(Errc::invalid_argument,
                  "guest page " + std::to_string(number) + " is no page of its RAM");
    pages.push_back(page);
  }
  return pages;
}

void copy_from_guest(std::byte* to, const std::byte* from, size_t length) {
  assert(is_whole_words(from, length));
  for (size_t at = 0; at < length; at += word_bytes) {
    // atomic_ref has no const form in C++23; a load changes nothing.
    const uint64_t word =
        word_at(const_cast<std::byte*>(from) + at).load(std::memory_order_relaxed);
    std::memcpy(to + at, &word, word_bytes);
  }
}

void copy_to_guest(std::byte* to, const std::byte* from, size_t length) {
  assert(is_whole_words(to, length));
  for (size_t at = 0; at < length; at += word_bytes) {
    uint64_t word = 0;
    std::memcpy(&word, from + at, word_bytes);
    word_at(to + at).store(word, std::memory_order_relaxed);
  }
}

}  // namespace vhdkit::vmbus
