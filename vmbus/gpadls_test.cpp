#include "vmbus/gpadls.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"
#include "vmbus/messages.h"
#include "vmbus/test_memory.h"

namespace vhdkit::vmbus {
namespace {

using Bytes = std::vector<std::byte>;

void put(Bytes& message, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) message.push_back(std::byte(value >> (8 * i)));
}

void put_pages(Bytes& message, uint64_t first, size_t count) {
  for (size_t i = 0; i < count; ++i) put(message, first + i, 8);
}

struct Header {
  uint32_t gpadl = 0xe1e10;
  uint16_t range_bytes = 8 + 8 * 64;
  uint16_t range_count = 1;
  uint32_t byte_count = 64 * 4096;
  uint32_t byte_offset = 0;
};

// By the offsets of a guest's own structures.
Bytes header_message(const Header& header, uint64_t first_page, size_t pages) {
  Bytes message;
  put(message, 8, 4);
  put(message, 0, 4);
  put(message, 3, 4);  // relid
  put(message, header.gpadl, 4);
  put(message, header.range_bytes, 2);
  put(message, header.range_count, 2);
  put(message, header.byte_count, 4);
  put(message, header.byte_offset, 4);
  put_pages(message, first_page, pages);
  return message;
}

Bytes body_message(uint32_t gpadl, uint64_t first_page, size_t pages) {
  Bytes message;
  put(message, 9, 4);
  put(message, 0, 4);
  put(message, 0, 4);
  put(message, gpadl, 4);
  put_pages(message, first_page, pages);
  return message;
}

TEST_CASE("storvsc's list of 64 pages comes in a header of 26 and bodies of 28 and 10") {
  TestMemory memory(100);
  Gpadls gpadls(memory, GpadlLimits());
  const auto begun = gpadls.begin(header_message({}, 7, 26));
  REQUIRE_OK(begun);
  CHECK_FALSE(*begun);
  CHECK(gpadls.find(0xe1e10) == nullptr);
  const auto more = gpadls.add(body_message(0xe1e10, 33, 28));
  REQUIRE_OK(more);
  CHECK_FALSE(*more);
  const auto last = gpadls.add(body_message(0xe1e10, 61, 10));
  REQUIRE_OK(last);
  CHECK(*last);
  const Gpadl* const list = gpadls.find(0xe1e10);
  REQUIRE(list != nullptr);
  CHECK(list->relid == 3);
  CHECK(list->byte_count == 262144);
  REQUIRE(list->pages.size() == 64);
  for (size_t i = 0; i < 64; ++i) CHECK(list->pages[i] == memory.page(7 + i));
  REQUIRE_FAILS(Errc::not_found, "nothing waits", gpadls.add(body_message(0xe1e10, 1, 1)));
  REQUIRE_OK(gpadls.tear_down(0xe1e10));
  CHECK(gpadls.find(0xe1e10) == nullptr);
  REQUIRE_FAILS(Errc::not_found, "there is none", gpadls.tear_down(0xe1e10));
}

TEST_CASE("lists that contradict themselves are refused, and nothing is kept of them") {
  TestMemory memory(100);
  Gpadls gpadls(memory, GpadlLimits());
  const std::pair<Header, const char*> lies[] = {
      {{.range_count = 2}, "2 ranges"},
      {{.range_count = 0}, "0 ranges"},
      {{.range_bytes = 8}, "described by 8 bytes"},
      {{.range_bytes = 519}, "described by 519 bytes"},
      {{.byte_count = 65 * 4096}, "do not take 64 pages"},
      {{.byte_count = 63 * 4096}, "do not take 64 pages"},
      {{.byte_offset = 4096}, "from 4096 on"},
      {{.byte_count = 0xffffffff, .byte_offset = 4095}, "do not take"},
  };
  for (const auto& [header, says] : lies) {
    CAPTURE(says);
    REQUIRE_FAILS(header.range_count == 1 ? Errc::invalid_argument : Errc::unsupported, says,
                  gpadls.begin(header_message(header, 0, 26)));
    REQUIRE_FAILS(Errc::not_found, "nothing waits", gpadls.add(body_message(header.gpadl, 1, 1)));
  }
  const Bytes whole = header_message({}, 0, 1);
  for (const size_t length : {0, 8, 27, 28, 35})
    REQUIRE_FAILS(Errc::invalid_argument, length < 28 ? "cut off" : "no page in it",
                  gpadls.begin(std::span(whole).first(length)));
  REQUIRE_FAILS(Errc::invalid_argument, "guest page 100", gpadls.begin(header_message({}, 90, 26)));
  REQUIRE_OK(gpadls.begin(header_message({}, 0, 26)));
  REQUIRE_FAILS(Errc::invalid_argument, "already", gpadls.begin(header_message({}, 0, 26)));
  REQUIRE_FAILS(Errc::invalid_argument, "guest page 100",
                gpadls.add(body_message(0xe1e10, 90, 28)));
  // The failed body has ended the list.
  REQUIRE_FAILS(Errc::not_found, "nothing waits", gpadls.add(body_message(0xe1e10, 1, 28)));
}

TEST_CASE("a guest cannot make us keep more lists or pages than the limits say") {
  TestMemory memory(100);
  Gpadls gpadls(memory, {.gpadl_count = 3, .page_count = 150});
  for (const uint32_t gpadl : {1U, 2U}) {
    const Header header{.gpadl = gpadl};
    REQUIRE_OK(gpadls.begin(header_message(header, 0, 26)));
  }
  const Header large{.gpadl = 3};
  REQUIRE_FAILS(Errc::no_space, "128 pages, and more are not kept",
                gpadls.begin(header_message(large, 0, 26)));
  const Header small{.gpadl = 3, .range_bytes = 16, .byte_count = 100};
  REQUIRE_OK(gpadls.begin(header_message(small, 5, 1)));
  const Header fourth{.gpadl = 4, .range_bytes = 16, .byte_count = 100};
  REQUIRE_FAILS(Errc::no_space, "there are 3", gpadls.begin(header_message(fourth, 5, 1)));
  REQUIRE_OK(gpadls.tear_down(1));
  REQUIRE_OK(gpadls.begin(header_message(fourth, 5, 1)));
}

}  // namespace
}  // namespace vhdkit::vmbus
