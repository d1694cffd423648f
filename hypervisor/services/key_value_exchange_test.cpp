#include "hypervisor/services/key_value_exchange.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/services/guest.h"
#include "tests/support/await.h"

namespace vhdkit::services {
namespace {

using namespace std::chrono_literals;
using tests::ServiceGuest;
using tests::ServiceMessage;
using tests::version_word;

using Values = std::vector<KeyValue>;

// Bodies by Linux's include/uapi/linux/hyperv.h: operation, pool, two bytes; for an enumeration an
// index; then type, two lengths in bytes, a key of 512 and a value of 2048.
constexpr size_t enumerated = 8;
constexpr size_t single = 4;

ServiceMessage& put_text(ServiceMessage& message, size_t offset, std::u16string_view text) {
  for (const char16_t unit : text) {
    message.set_body(offset, uint16_t(unit));
    offset += 2;
  }
  return message;
}

std::u16string text_at(const ServiceMessage& message, size_t offset, size_t byte_count) {
  std::u16string text;
  for (size_t i = 0; i < byte_count; i += 2) text += char16_t(message.body<uint16_t>(offset + i));
  return text;
}

ServiceMessage with_entry(const ServiceMessage& request, size_t at, std::u16string_view key,
                          std::u16string_view value) {
  ServiceMessage answer = request.answer();
  answer.set_body(at, uint32_t{1});
  answer.set_body(at + 4, uint32_t(key.size() * 2 + 2));
  answer.set_body(at + 8, uint32_t(value.size() * 2 + 2));
  put_text(answer, at + 12, key);
  return put_text(answer, at + 524, value);
}

struct Fixture {
  Fixture() { guest.attach(service); }
  ~Fixture() { guest.leave(); }
  void agree() { guest.open_with(version_word(3, 0), version_word(4, 0)); }
  // As hv_kvp_daemon: one after another by their index, then there are no more.
  void answer_enumeration(std::initializer_list<std::pair<std::u16string, std::u16string>> entries,
                          uint8_t pool = 2) {
    uint32_t index = 0;
    for (const auto& [key, value] : entries) {
      const ServiceMessage request = guest.take();
      CHECK(request.body<uint32_t>(4) == index++);
      CHECK(request.body<uint8_t>(1) == pool);
      guest.send(with_entry(request, enumerated, key, value));
    }
    guest.send(guest.take().answer(0x80070103));
  }
  void agree_quietly() {
    agree();
    answer_enumeration({});
  }
  ValuesDone note() {
    outcome.reset();
    return [this](Result<Values> result) {
      REQUIRE_FALSE(outcome);
      outcome = std::move(result);
    };
  }

  ServiceGuest guest;
  KeyValueExchange service{guest.host()};
  std::optional<Result<Values>> outcome;
};

TEST_CASE_FIXTURE(Fixture, "what a guest says of itself is read at once, and every half minute") {
  agree();
  const ServiceMessage request = guest.take();
  CHECK(request.type() == 2);
  CHECK(request.body_bytes() == 2580);
  CHECK(request.body<uint8_t>(0) == 3);
  CHECK(request.body<uint8_t>(1) == 2);
  CHECK(request.body<uint32_t>(4) == 0);
  guest.send(with_entry(request, enumerated, u"FullyQualifiedDomainName", u"gu\u00e4st"));
  const ServiceMessage second = guest.take();
  CHECK(second.body<uint32_t>(4) == 1);
  guest.send(with_entry(second, enumerated, u"NetworkAddressIPv4", u"10.0.0.1;10.0.0.2"));
  CHECK(service.guest_values().empty());
  guest.send(guest.take().answer(0x80070103));
  const Values expected = {{"FullyQualifiedDomainName", "gu\xc3\xa4st"},
                           {"NetworkAddressIPv4", "10.0.0.1;10.0.0.2"}};
  CHECK(service.guest_values() == expected);
  CHECK(service.report()["guest"]["NetworkAddressIPv4"] == "10.0.0.1;10.0.0.2");
  guest.pass(29999ms);
  CHECK_FALSE(guest.has_more());
  guest.pass(1ms);
  answer_enumeration({{u"OSName", u"Debian"}});
  CHECK(service.guest_values() == Values{{"OSName", "Debian"}});
  // What it said stays when it is gone.
  guest.close();
  CHECK(service.guest_values() == Values{{"OSName", "Debian"}});
  agree();
  CHECK(service.guest_values().empty());
}

TEST_CASE_FIXTURE(Fixture, "a pool is read to its end") {
  agree_quietly();
  service.enumerate(Pool::guest, note());
  answer_enumeration({{u"a", u"1"}, {u"b", u""}}, 1);
  REQUIRE(outcome);
  REQUIRE_OK(*outcome);
  CHECK(**outcome == Values{{"a", "1"}, {"b", ""}});
}

TEST_CASE_FIXTURE(Fixture, "a pool without an end is read to 256 entries") {
  agree_quietly();
  service.enumerate(Pool::guest, note());
  for (int i = 0; i < 256; ++i) {
    REQUIRE_FALSE(outcome);
    guest.send(with_entry(guest.take(), enumerated, u"k", u"v"));
  }
  REQUIRE(outcome);
  REQUIRE_OK(*outcome);
  CHECK((*outcome)->size() == 256);
  CHECK_FALSE(guest.has_more());
}

TEST_CASE_FIXTURE(Fixture, "a value is written, read and removed") {
  agree_quietly();
  service.set(Pool::external, {.key = "name", .value = "w\xc3\xa4rt"}, note());
  ServiceMessage request = guest.take();
  CHECK(request.body_bytes() == 2576);
  CHECK(request.body<uint16_t>(0) == 0x0001);
  CHECK(request.body<uint32_t>(single) == 1);
  // Lengths count the zero behind the text.
  CHECK(request.body<uint32_t>(single + 4) == 10);
  CHECK(request.body<uint32_t>(single + 8) == 10);
  using namespace std::string_literals;
  CHECK(text_at(request, single + 12, 10) == u"name\0"s);
  CHECK(text_at(request, single + 524, 10) == u"w\u00e4rt\0"s);
  guest.send(request.answer());
  REQUIRE_OK(*outcome);

  service.get(Pool::external, "name", note());
  request = guest.take();
  CHECK(request.body<uint16_t>(0) == 0x0000);
  CHECK(text_at(request, single + 12, 10) == u"name\0"s);
  guest.send(with_entry(request, single, u"name", u"there"));
  REQUIRE_OK(*outcome);
  CHECK(**outcome == Values{{"name", "there"}});

  service.remove(Pool::external, "name", note());
  request = guest.take();
  CHECK(request.body_bytes() == 520);
  CHECK(request.body<uint16_t>(0) == 0x0002);
  CHECK(request.body<uint32_t>(4) == 10);
  CHECK(text_at(request, 8, 10) == u"name\0"s);
  guest.send(request.answer());
  REQUIRE_OK(*outcome);
}

TEST_CASE_FIXTURE(Fixture, "numbers are values, too") {
  agree_quietly();
  service.get(Pool::guest, "n", note());
  guest.send(with_entry(guest.take(), single, u"n", u"")
                 .set_body(single, uint32_t{4})
                 .set_body(single + 524, uint32_t{4000000000}));
  CHECK(**outcome == Values{{"n", "4000000000"}});
  service.get(Pool::guest, "n", note());
  guest.send(with_entry(guest.take(), single, u"n", u"")
                 .set_body(single, uint32_t{8})
                 .set_body(single + 524, UINT64_MAX));
  CHECK(**outcome == Values{{"n", "18446744073709551615"}});
}

TEST_CASE_FIXTURE(Fixture, "what a guest cannot do is told") {
  agree_quietly();
  service.get(Pool::guest, "missing", note());
  guest.send(guest.take().answer(0x80070103));
  REQUIRE_FAILS(Errc::not_found, "missing", *outcome);
  service.set(Pool::external, {.key = "k", .value = "v"}, note());
  guest.send(guest.take().answer(0x80070070));
  REQUIRE_FAILS(Errc::io, "full", *outcome);
  service.enumerate(Pool::guest, note());
  guest.send(guest.take().answer(0x80004005));
  REQUIRE_FAILS(Errc::io, "failed", *outcome);
}

TEST_CASE_FIXTURE(Fixture, "keys and values that do not fit are not sent") {
  agree_quietly();
  const auto refused = [&](const KeyValue& entry, const char* text) {
    service.set(Pool::external, entry, note());
    REQUIRE(outcome);
    REQUIRE_FAILS(Errc::invalid_argument, text, *outcome);
    CHECK_FALSE(guest.has_more());
  };
  refused({.key = "", .value = "v"}, "key");
  refused({.key = std::string(256, 'k'), .value = "v"}, "key");
  refused({.key = "k", .value = std::string(1024, 'v')}, "value");
  service.set(Pool::external, {.key = std::string(255, 'k'), .value = std::string(1023, 'v')},
              note());
  const ServiceMessage request = guest.take();
  CHECK(request.body<uint32_t>(single + 4) == 512);
  CHECK(request.body<uint32_t>(single + 8) == 2048);
}

TEST_CASE_FIXTURE(Fixture, "requests wait for each other, sixteen at most") {
  agree_quietly();
  unsigned done = 0;
  unsigned refused = 0;
  for (int i = 0; i < 20; ++i)
    service.remove(Pool::external, std::to_string(i), [&](const Result<Values>& result) {
      ++(result ? done : refused);
      if (!result) CHECK(result.error().code == Errc::busy);
    });
  CHECK(refused == 4);
  for (unsigned i = 0; i < 16; ++i) {
    CHECK(done == i);
    const ServiceMessage request = guest.take();
    CHECK_FALSE(guest.has_more());
    guest.send(request.answer());
  }
  CHECK(done == 16);
}

TEST_CASE_FIXTURE(Fixture, "a daemon that does not answer is given up, one request after another") {
  agree_quietly();
  service.remove(Pool::external, "a", note());
  const ServiceMessage first = guest.take();
  guest.pass(39999ms);
  CHECK_FALSE(outcome);
  guest.pass(1ms);
  REQUIRE(outcome);
  REQUIRE_FAILS(Errc::io, "daemon", *outcome);
  // The half minute has passed as well: it was asked for its names.
  const ServiceMessage second = guest.take();
  guest.send(first.answer());
  guest.send(second.answer(0x80070103));
  service.remove(Pool::external, "b", note());
  guest.send(guest.take().answer());
  REQUIRE_OK(*outcome);
}

TEST_CASE_FIXTURE(Fixture, "who waits is told that the guest is gone") {
  agree_quietly();
  service.remove(Pool::external, "a", note());
  unsigned failed = 0;
  service.enumerate(Pool::guest, [&](const Result<Values>& result) { failed += !result; });
  guest.close();
  REQUIRE_FAILS(Errc::io, "gone", *outcome);
  CHECK(failed == 1);
  service.enumerate(Pool::guest, note());
  CHECK(outcome->error().code == Errc::not_found);
}

TEST_CASE_FIXTURE(Fixture, "texts that are none are told as well as they can be") {
  agree();
  const std::u16string no_utf16 = {u'a', char16_t(0xd800), u'b', char16_t(0xdc00),
                                   char16_t(0xdc00)};
  ServiceMessage endless = with_entry(guest.take(), enumerated, no_utf16, u"");
  endless.set_body(enumerated + 4, uint32_t{512});
  endless.set_body(enumerated + 8, uint32_t{2048});
  for (size_t i = 0; i < 2048; i += 2) endless.set_body(enumerated + 524 + i, uint16_t{'v'});
  guest.send(endless);
  ServiceMessage second = with_entry(guest.take(), enumerated, u"shorter", u"than it says");
  second.set_body(enumerated + 4, uint32_t{4});
  second.set_body(enumerated + 8, uint32_t{0});
  guest.send(second);
  guest.send(guest.take().answer(0x80070103));
  const std::string replacement = "\xef\xbf\xbd";
  const Values expected = {
      {"a" + replacement + "b" + replacement + replacement, std::string(1024, 'v')}, {"sh", ""}};
  CHECK(service.guest_values() == expected);
  CHECK_NOTHROW(service.report().dump());
}

TEST_CASE_FIXTURE(Fixture, "entries that contradict themselves break the channel off") {
  agree();
  ServiceMessage answer = with_entry(guest.take(), enumerated, u"key", u"value");
  SUBCASE("a key longer than its field") { answer.set_body(enumerated + 4, uint32_t{514}); }
  SUBCASE("a key as long as can be") { answer.set_body(enumerated + 4, UINT32_MAX); }
  SUBCASE("a value longer than its field") { answer.set_body(enumerated + 8, uint32_t{2050}); }
  SUBCASE("half a character") { answer.set_body(enumerated + 8, uint32_t{3}); }
  SUBCASE("a type that there is not") { answer.set_body(enumerated, uint32_t{7}); }
  SUBCASE("cut off") { answer.set(18, uint16_t{2579}); }
  guest.send(answer);
  CHECK(guest.is_broken());
  CHECK(service.guest_values().empty());
}

TEST_CASE_FIXTURE(Fixture, "a value that is cut off breaks the channel off") {
  agree_quietly();
  service.get(Pool::guest, "k", note());
  guest.send(guest.take().answer().set(18, uint16_t{4}));
  CHECK(guest.is_broken());
  REQUIRE(outcome);
  CHECK_FALSE(*outcome);
}

}  // namespace
}  // namespace vhdkit::services
