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
using Json = nlohmann::ordered_json;

// Bodies by Linux's include/uapi/linux/hyperv.h: operation, pool, two bytes; an index; then type,
// two lengths in bytes, a key of 512 and a value of 2048.
constexpr size_t enumerated = 8;

ServiceMessage& put_text(ServiceMessage& message, size_t offset, std::u16string_view text) {
  for (const char16_t unit : text) {
    message.set_body(offset, uint16_t(unit));
    offset += 2;
  }
  return message;
}

ServiceMessage with_entry(const ServiceMessage& request, std::u16string_view key,
                          std::u16string_view value) {
  constexpr size_t at = enumerated;
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
  void answer_enumeration(
      std::initializer_list<std::pair<std::u16string, std::u16string>> entries) {
    uint32_t index = 0;
    for (const auto& [key, value] : entries) {
      const ServiceMessage request = guest.take();
      CHECK(request.body<uint32_t>(4) == index++);
      CHECK(request.body<uint8_t>(1) == 2);
      guest.send(with_entry(request, key, value));
    }
    guest.send(guest.take().answer(0x80070103));
  }
  // What it has said of itself.
  Json values() const { return service.report()["guest"]; }

  ServiceGuest guest;
  KeyValueExchange service{guest.host()};
};

TEST_CASE_FIXTURE(Fixture, "what a guest says of itself is read at once, and every half minute") {
  agree();
  const ServiceMessage request = guest.take();
  CHECK(request.type() == 2);
  CHECK(request.body_bytes() == 2580);
  CHECK(request.body<uint8_t>(0) == 3);
  CHECK(request.body<uint8_t>(1) == 2);
  CHECK(request.body<uint32_t>(4) == 0);
  guest.send(with_entry(request, u"FullyQualifiedDomainName", u"gu\u00e4st"));
  const ServiceMessage second = guest.take();
  CHECK(second.body<uint32_t>(4) == 1);
  guest.send(with_entry(second, u"NetworkAddressIPv4", u"10.0.0.1;10.0.0.2"));
  CHECK(values().empty());
  guest.send(guest.take().answer(0x80070103));
  const Json expected = {{"FullyQualifiedDomainName", "gu\xc3\xa4st"},
                         {"NetworkAddressIPv4", "10.0.0.1;10.0.0.2"}};
  CHECK(values() == expected);
  guest.pass(29999ms);
  CHECK_FALSE(guest.has_more());
  guest.pass(1ms);
  answer_enumeration({{u"OSName", u"Debian"}});
  CHECK(values() == Json{{"OSName", "Debian"}});
  // What it said stays when it is gone.
  guest.close();
  CHECK(values() == Json{{"OSName", "Debian"}});
  agree();
  CHECK(values().empty());
}

TEST_CASE_FIXTURE(Fixture, "who never comes to an end is read to 256 entries") {
  agree();
  for (int i = 0; i < 256; ++i) {
    CHECK(values().empty());
    guest.send(with_entry(guest.take(), std::u16string{u'k', char16_t(0x100 + i)}, u"v"));
  }
  CHECK(values().size() == 256);
  CHECK_FALSE(guest.has_more());
}

TEST_CASE_FIXTURE(Fixture, "numbers are values, too") {
  agree();
  guest.send(with_entry(guest.take(), u"n", u"")
                 .set_body(enumerated, uint32_t{4})
                 .set_body(enumerated + 524, uint32_t{4000000000}));
  guest.send(with_entry(guest.take(), u"m", u"")
                 .set_body(enumerated, uint32_t{8})
                 .set_body(enumerated + 524, UINT64_MAX));
  guest.send(guest.take().answer(0x80070103));
  const Json expected = {{"n", "4000000000"}, {"m", "18446744073709551615"}};
  CHECK(values() == expected);
}

TEST_CASE_FIXTURE(Fixture, "what a guest said stays where it cannot say it again") {
  agree();
  answer_enumeration({{u"OSName", u"Debian"}});
  const Json before = {{"OSName", "Debian"}};
  guest.pass(30s);
  guest.send(with_entry(guest.take(), u"OSName", u"Debian 13"));
  SUBCASE("it fails") {
    guest.send(guest.take().answer(0x80004005));
    CHECK(values() == before);
    guest.pass(30s);
  }
  SUBCASE("its daemon does not answer, or when nobody waits any more") {
    const ServiceMessage late = guest.take();
    guest.pass(39999ms);
    CHECK_FALSE(guest.has_more());
    guest.pass(1ms);
    guest.send(late.answer(0x80070103));
    CHECK(values() == before);
    guest.pass(30s);
  }
  SUBCASE("it is gone") {
    guest.take();
    guest.close();
    CHECK(values() == before);
    agree();
  }
  answer_enumeration({{u"OSName", u"Debian 14"}});
  CHECK(values()["OSName"] == "Debian 14");
  CHECK_FALSE(guest.has_more());
}

TEST_CASE_FIXTURE(Fixture, "texts that are none are told as well as they can be") {
  agree();
  const std::u16string no_utf16 = {u'a', char16_t(0xd800), u'b', char16_t(0xdc00),
                                   char16_t(0xdc00)};
  ServiceMessage endless = with_entry(guest.take(), no_utf16, u"");
  endless.set_body(enumerated + 4, uint32_t{512});
  endless.set_body(enumerated + 8, uint32_t{2048});
  for (size_t i = 0; i < 2048; i += 2) endless.set_body(enumerated + 524 + i, uint16_t{'v'});
  guest.send(endless);
  ServiceMessage second = with_entry(guest.take(), u"shorter", u"than it says");
  second.set_body(enumerated + 4, uint32_t{4});
  second.set_body(enumerated + 8, uint32_t{0});
  guest.send(second);
  guest.send(guest.take().answer(0x80070103));
  const std::string replacement = "\xef\xbf\xbd";
  const Json expected = {
      {"a" + replacement + "b" + replacement + replacement, std::string(1024, 'v')}, {"sh", ""}};
  CHECK(values() == expected);
  CHECK_NOTHROW(service.report().dump());
}

TEST_CASE_FIXTURE(Fixture, "entries that contradict themselves break the channel off") {
  agree();
  ServiceMessage answer = with_entry(guest.take(), u"key", u"value");
  SUBCASE("a key longer than its field") { answer.set_body(enumerated + 4, uint32_t{514}); }
  SUBCASE("a key as long as can be") { answer.set_body(enumerated + 4, UINT32_MAX); }
  SUBCASE("a value longer than its field") { answer.set_body(enumerated + 8, uint32_t{2050}); }
  SUBCASE("half a character") { answer.set_body(enumerated + 8, uint32_t{3}); }
  SUBCASE("a type that there is not") { answer.set_body(enumerated, uint32_t{7}); }
  SUBCASE("cut off") { answer.set(18, uint16_t{2579}); }
  guest.send(answer);
  CHECK(guest.is_broken());
  CHECK(values().empty());
}

}  // namespace
}  // namespace vhdkit::services
