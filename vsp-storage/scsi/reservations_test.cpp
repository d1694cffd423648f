#include "vsp-storage/scsi/reservations.h"

#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

constexpr uint64_t key1 = 0x1111111111111111, key2 = 0x2222222222222222, key3 = 0x3333;
enum Action : uint8_t {
  register_key = 0,
  reserve = 1,
  release = 2,
  clear = 3,
  preempt = 4,
  preempt_and_abort = 5,
  register_and_ignore = 6,
  register_and_move = 7
};

struct Out {
  Action action;
  unsigned type = 0;
  uint64_t key = 0;
  uint64_t action_key = 0;
  unsigned flags = 0;
  unsigned scope = 0;
};

struct Keys {
  uint64_t generation;
  std::vector<uint64_t> keys;
};

// Three initiators of one disk, past their power-on.
struct Trio : TestDisk {
  TestInitiator second{unit, disk, 22};
  TestInitiator third{unit, disk, 33};
  Trio() {
    second.settle();
    third.settle();
  }

  static std::string send(TestInitiator& from, const Out& what) {
    Bytes list(24);
    store(list, 0, what.key, 8);
    store(list, 8, what.action_key, 8);
    store(list, 20, what.flags, 1);
    return said(from.out(
        bytes_of_values({0x5f, what.action, what.scope << 4 | what.type, 0, 0, 0, 0, 0, 24, 0}),
        list));
  }
  Bytes read(unsigned action) {
    const Outcome outcome =
        third.in(bytes_of_values({0x5e, action, 0, 0, 0, 0, 0, 0x10, 0, 0}), 4096);
    REQUIRE(said(outcome) == "good");
    Bytes data = third.data();
    data.resize(outcome.transferred_bytes);
    if (action != 2) CHECK(value_at(data, 4, 4) == data.size() - 8);
    return data;
  }
  Keys keys() {
    const Bytes data = read(0);
    Keys found{.generation = value_at(data, 0, 4), .keys = {}};
    for (size_t at = 8; at < data.size(); at += 8) found.keys.push_back(value_at(data, at, 8));
    return found;
  }
  // Its type; 0 where there is none.
  uint64_t reservation(uint64_t key) {
    const Bytes data = read(1);
    if (data.size() == 8) return 0;
    CHECK(data.size() == 24);
    CHECK(value_at(data, 8, 8) == key);
    return value_at(data, 21, 1);
  }
  void register_two() {
    CHECK(send(initiator, {.action = register_and_ignore, .action_key = key1}) == "good");
    CHECK(send(second, {.action = register_and_ignore, .action_key = key2}) == "good");
  }
};

std::string reading(TestInitiator& initiator) { return said(initiator.read({.count = 1})); }
std::string writing(TestInitiator& initiator) {
  return said(initiator.write({.count = 1}, Bytes(512)));
}

TEST_CASE("PROUT REGISTER: Simple; PRIN READ KEYS: Simple") {
  Trio trio;
  CHECK(trio.keys().keys.empty());
  CHECK(Trio::send(trio.initiator, {.action = register_key, .key = 1, .action_key = key1}) ==
        "conflict");
  CHECK(Trio::send(trio.initiator, {.action = register_key, .action_key = key1}) == "good");
  CHECK(Trio::send(trio.initiator, {.action = register_key, .action_key = key2}) == "conflict");
  CHECK(Trio::send(trio.initiator, {.action = register_key, .key = key1, .action_key = key2}) ==
        "good");
  CHECK(trio.keys().keys == std::vector{key2});
  CHECK(trio.keys().generation == 2);
  CHECK(Trio::send(trio.second, {.action = register_key, .action_key = key2}) == "good");
  CHECK(trio.keys().keys == std::vector{key2, key2});
  CHECK(Trio::send(trio.initiator, {.action = register_key, .key = key2}) == "good");
  CHECK(Trio::send(trio.second, {.action = register_and_ignore}) == "good");
  CHECK(trio.keys().keys.empty());
  CHECK(trio.keys().generation == 5);
  // To unregister who is not registered is nothing.
  CHECK(Trio::send(trio.second, {.action = register_and_ignore}) == "good");
  CHECK(Trio::send(trio.second, {.action = register_key}) == "good");
  CHECK(trio.keys().generation == 5);
}

TEST_CASE("PROUT RESERVE: Simple: every type, and only for registrants") {
  for (unsigned type = 0; type < 16; ++type) {
    CAPTURE(type);
    const bool is_known = type == 1 || type == 3 || (type >= 5 && type <= 8);
    Trio trio;
    CHECK(Trio::send(trio.initiator, {.action = reserve, .type = 1, .key = key1}) == "conflict");
    trio.register_two();
    CHECK(Trio::send(trio.initiator, {.action = reserve, .type = type, .key = key2}) ==
          (is_known ? "conflict" : "5/24/00"));
    const Out take{.action = reserve, .type = type, .key = key1};
    CHECK(Trio::send(trio.initiator, take) == (is_known ? "good" : "5/24/00"));
    CHECK(trio.reservation(type >= 7 ? 0 : key1) == (is_known ? type : 0));
    if (!is_known) continue;
    CHECK(Trio::send(trio.initiator, take) == "good");  // once more
    const Out other{.action = reserve, .type = type == 1 ? 3U : 1U, .key = key1};
    CHECK(Trio::send(trio.initiator, other) == "conflict");
    // Where all registrants hold it, the second one holds it as well.
    CHECK(Trio::send(trio.second, {.action = reserve, .type = type, .key = key2}) ==
          (type >= 7 ? "good" : "conflict"));
    CHECK(Trio::send(trio.initiator, {.action = reserve, .type = type, .key = key1, .scope = 1}) ==
          "5/24/00");
    CHECK(trio.keys().generation == 2);
  }
}

struct Rights {
  unsigned type;
  bool registrant_reads, registrant_writes, others_read, others_write;
};
// SPC-4 table 62 and SBC-3 table 13; the same as libiscsi's cases.
constexpr Rights rights[] = {
    {1, true, false, true, false},    // AccessWE
    {3, false, false, false, false},  // AccessEA
    {5, true, true, true, false},     // AccessWERO
    {6, true, true, false, false},    // AccessEARO
    {7, true, true, true, false},     // AccessWEAR
    {8, true, true, false, false},    // AccessEAAR
};

TEST_CASE("PROUT RESERVE: AccessEA, WE, EARO, WERO, EAAR, WEAR") {
  const auto says = [](bool may) { return may ? "good" : "conflict"; };
  for (const Rights& each : rights) {
    CAPTURE(each.type);
    Trio trio;
    trio.register_two();
    CHECK(Trio::send(trio.initiator, {.action = reserve, .type = each.type, .key = key1}) ==
          "good");
    CHECK(reading(trio.initiator) == "good");
    CHECK(writing(trio.initiator) == "good");
    CHECK(reading(trio.second) == says(each.registrant_reads));
    CHECK(writing(trio.second) == says(each.registrant_writes));
    CHECK(reading(trio.third) == says(each.others_read));
    CHECK(writing(trio.third) == says(each.others_write));
    // What is harmless is done for everybody; what changes something is a write.
    CHECK(said(trio.third.test_unit_ready()) == "good");
    CHECK(said(trio.third.in(bytes_of_values({0x12, 0, 0, 0, 36, 0}), 36)) == "good");
    CHECK(said(trio.third.in(bytes_of_values({0x1a, 0, 8, 0, 99, 0}), 99)) == "good");
    CHECK(said(trio.third.in(cdb10(0x25, {}), 8)) == "good");
    CHECK(said(trio.third.none(bytes_of_values({0x1b, 0, 0, 0, 1, 0}))) == "good");
    CHECK(said(trio.third.none(bytes_of_values({0x1b, 0, 0, 0, 0, 0}))) == "conflict");
    CHECK(said(trio.third.none(bytes_of_values({0x1e, 0, 0, 0, 1, 0}))) == "conflict");
    CHECK(said(trio.third.none(bytes_of_values({0x1e, 0, 0, 0, 0, 0}))) == "good");
    CHECK(said(trio.third.none(cdb10(0x35, {}))) == "conflict");
    CHECK(said(trio.third.out(cdb16(0x93, {.count = 1}), Bytes(512))) == "conflict");
    CHECK(said(trio.third.out(cdb10(0x42, {.count = 8}), Bytes(8))) == "conflict");
    CHECK(said(trio.third.none(cdb10(0x2f, {.count = 1}))) == says(each.others_read));
    CHECK(said(trio.third.in(cdb16(0x9e, {.count = 24, .flags = 0x12}), 24)) ==
          says(each.others_read));
    CHECK(Trio::send(trio.second, {.action = register_key, .key = key2}) == "good");
    CHECK(reading(trio.second) == says(each.others_read));
    CHECK(writing(trio.second) == says(each.others_write));
    CHECK(Trio::send(trio.initiator, {.action = release, .type = each.type, .key = key1}) ==
          "good");
    CHECK(writing(trio.third) == "good");
  }
}

TEST_CASE("PROUT RESERVE: OwnershipEA, WE, EARO, WERO, EAAR, WEAR: it goes with its holder") {
  for (const Rights& each : rights) {
    CAPTURE(each.type);
    const bool all = each.type >= 7, told = each.type >= 5;
    Trio trio;
    trio.register_two();
    CHECK(Trio::send(trio.initiator, {.action = reserve, .type = each.type, .key = key1}) ==
          "good");
    CHECK(Trio::send(trio.initiator, {.action = register_key, .key = key1}) == "good");
    CHECK(trio.reservation(0) == (all ? each.type : 0));
    CHECK(said(trio.second.test_unit_ready()) == (told && !all ? "6/2A/04" : "good"));
    CHECK(Trio::send(trio.second, {.action = register_key, .key = key2}) == "good");
    CHECK(trio.reservation(0) == 0);
  }
}

TEST_CASE("RELEASE: by the holder, of the right type; registrants are told") {
  for (const Rights& each : rights) {
    CAPTURE(each.type);
    Trio trio;
    trio.register_two();
    const Out give{.action = release, .type = each.type, .key = key1};
    CHECK(Trio::send(trio.initiator, give) == "good");  // there is none
    CHECK(Trio::send(trio.initiator, {.action = reserve, .type = each.type, .key = key1}) ==
          "good");
    CHECK(Trio::send(trio.initiator, {.action = release, .type = each.type, .key = key3}) ==
          "conflict");
    const Out wrong{.action = release, .type = each.type == 1 ? 3U : 1U, .key = key1};
    CHECK(Trio::send(trio.initiator, wrong) == "5/26/04");
    if (each.type < 7)
      CHECK(Trio::send(trio.second, {.action = release, .type = each.type, .key = key2}) == "good");
    CHECK(trio.reservation(each.type >= 7 ? 0 : key1) == each.type);
    CHECK(Trio::send(trio.initiator, give) == "good");
    CHECK(trio.reservation(0) == 0);
    CHECK(said(trio.second.test_unit_ready()) == (each.type >= 5 ? "6/2A/04" : "good"));
    CHECK(said(trio.initiator.test_unit_ready()) == "good");
    CHECK(trio.keys().keys.size() == 2);
  }
}

TEST_CASE("PROUT CLEAR: Simple") {
  Trio trio;
  trio.register_two();
  CHECK(Trio::send(trio.initiator, {.action = reserve, .type = 3, .key = key1}) == "good");
  CHECK(Trio::send(trio.third, {.action = clear, .key = key1}) == "conflict");
  CHECK(Trio::send(trio.second, {.action = clear, .key = key2}) == "good");
  CHECK(trio.keys().keys.empty());
  CHECK(trio.reservation(0) == 0);
  CHECK(trio.keys().generation == 3);
  CHECK(said(trio.initiator.test_unit_ready()) == "6/2A/03");
  CHECK(said(trio.second.test_unit_ready()) == "good");
}

TEST_CASE("PROUT PREEMPT: RemoveRegistration") {
  for (const Action action : {preempt, preempt_and_abort}) {
    Trio trio;
    trio.register_two();
    const Out none{.action = action, .type = 1, .key = key1, .action_key = key3};
    CHECK(Trio::send(trio.initiator, none) == "conflict");
    const Out zero{.action = action, .type = 1, .key = key1};
    CHECK(Trio::send(trio.initiator, zero) == "5/26/00");
    const Out other{.action = action, .type = 1, .key = key1, .action_key = key2};
    CHECK(Trio::send(trio.initiator, other) == "good");
    CHECK(trio.keys().keys == std::vector{key1});
    CHECK(trio.keys().generation == 3);
    CHECK(trio.reservation(0) == 0);
    CHECK(said(trio.second.test_unit_ready()) == "6/2A/05");
  }
}

TEST_CASE("PREEMPT takes a reservation over from its holder") {
  Trio trio;
  trio.register_two();
  CHECK(Trio::send(trio.third, {.action = register_key, .action_key = key3}) == "good");
  CHECK(Trio::send(trio.initiator, {.action = reserve, .type = 5, .key = key1}) == "good");
  const Out take{.action = preempt, .type = 3, .key = key2, .action_key = key1};
  CHECK(Trio::send(trio.second, take) == "good");
  CHECK(said(trio.third.test_unit_ready()) == "6/2A/04");  // the type is another one
  CHECK(said(trio.initiator.test_unit_ready()) == "6/2A/05");
  CHECK(trio.reservation(key2) == 3);
  CHECK(trio.keys().keys == std::vector{key2, key3});
  CHECK(said(trio.second.test_unit_ready()) == "good");
  CHECK(writing(trio.initiator) == "conflict");
  CHECK(writing(trio.second) == "good");
}

TEST_CASE("PREEMPT of a reservation that all registrants hold takes key 0") {
  Trio trio;
  trio.register_two();
  CHECK(Trio::send(trio.initiator, {.action = reserve, .type = 8, .key = key1}) == "good");
  const Out some{.action = preempt, .type = 1, .key = key1, .action_key = key2};
  CHECK(Trio::send(trio.initiator, some) == "good");
  CHECK(trio.reservation(0) == 8);
  CHECK(trio.keys().keys == std::vector{key1});
  CHECK(Trio::send(trio.second, {.action = register_and_ignore, .action_key = key2}) == "6/2A/05");
  CHECK(Trio::send(trio.second, {.action = register_and_ignore, .action_key = key2}) == "good");
  CHECK(Trio::send(trio.second, {.action = preempt, .type = 1, .key = key2}) == "good");
  CHECK(trio.reservation(key2) == 1);
  CHECK(trio.keys().keys == std::vector{key2});
}

TEST_CASE("PRIN REPORT CAPABILITIES: Simple") {
  Trio trio;
  const Bytes data = trio.read(2);
  CHECK(data.size() == 8);
  CHECK(value_at(data, 0, 8) == 0x000810b0ea010000);
}

TEST_CASE("PRIN READ FULL STATUS names every registrant's port") {
  Trio trio;
  trio.register_two();
  CHECK(Trio::send(trio.second, {.action = reserve, .type = 6, .key = key2}) == "good");
  const Bytes data = trio.read(3);
  REQUIRE(data.size() == 8 + 2 * 48);
  CHECK(value_at(data, 8, 8) == key1);
  CHECK(value_at(data, 20, 2) == 0x0200);
  CHECK(value_at(data, 56, 8) == key2);
  CHECK(value_at(data, 68, 2) == 0x0306);
  CHECK(value_at(data, 76, 4) == 24);
  CHECK(value_at(data, 80, 1) == 0x0f);
  CHECK(value_at(data, 96, 8) == 22);
}

TEST_CASE("PRIN SERVICEACTION: Range; PROUT with what is not supported") {
  Trio trio;
  for (unsigned action = 4; action < 0x20; ++action)
    CHECK(field(trio.third.in(bytes_of_values({0x5e, action, 0, 0, 0, 0, 0, 0, 255, 0}), 255)) ==
          "cdb 1.4");
  CHECK(Trio::send(trio.initiator, {.action = register_and_move}) == "5/24/00");
  for (const unsigned flags : {0x08U, 0x04U, 0x01U})  // SPEC_I_PT, ALL_TG_PT, APTPL
    for (const Action action : {register_key, register_and_ignore})
      CHECK(Trio::send(trio.initiator, {.action = action, .action_key = 1, .flags = flags}) ==
            "5/26/00");
  for (const unsigned length : {0U, 23U, 25U})
    CHECK(said(trio.initiator.out(bytes_of_values({0x5f, 0, 0, 0, 0, 0, 0, 0, length, 0}),
                                  Bytes(64))) == "5/1A/00");
  CHECK(said(trio.initiator.out(bytes_of_values({0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0}), Bytes(23))) ==
        "5/1A/00");
  CHECK(trio.keys().keys.empty());
}

TEST_CASE("registrations are bounded") {
  TestDisk test;
  for (uint64_t number = 0; number < 70; ++number) {
    TestInitiator initiator(test.unit, test.disk, number);
    initiator.settle();
    CHECK(Trio::send(initiator, {.action = register_key, .action_key = number + 1}) ==
          (number < Reservations::max_registrants ? "good" : "5/55/04"));
  }
}

TEST_CASE("a reset leaves persistent reservations as they are") {
  Trio trio;
  trio.register_two();
  CHECK(Trio::send(trio.initiator, {.action = reserve, .type = 3, .key = key1}) == "good");
  trio.unit.reset();
  CHECK(said(trio.second.test_unit_ready()) == "6/29/03");
  CHECK(reading(trio.second) == "conflict");
  trio.third.settle();
  CHECK(trio.reservation(key1) == 3);
}

TEST_CASE("with the power, registrations and reservations are gone") {
  Trio trio;
  trio.register_two();
  CHECK(Trio::send(trio.initiator, {.action = reserve, .type = 3, .key = key1}) == "good");
  trio.unit.power_on();
  CHECK(said(trio.second.test_unit_ready()) == "6/29/00");
  CHECK(reading(trio.second) == "good");
  trio.third.settle();
  CHECK(trio.keys().keys.empty());
}

TEST_CASE("RESERVE 6, 10: Simple, 2Initiators, LUNReset") {
  for (const bool is_ten : {false, true}) {
    const Bytes take = is_ten ? cdb10(0x56, {}) : cdb6(0x16, {});
    const Bytes give = is_ten ? cdb10(0x57, {}) : cdb6(0x17, {});
    Trio trio;
    CHECK(said(trio.initiator.none(take)) == "good");
    CHECK(said(trio.initiator.none(take)) == "good");
    CHECK(said(trio.second.none(take)) == "conflict");
    CHECK(reading(trio.second) == "conflict");
    CHECK(writing(trio.initiator) == "good");
    CHECK(said(trio.second.in(bytes_of_values({0x12, 0, 0, 0, 36, 0}), 36)) == "good");
    CHECK(said(trio.second.in(bytes_of_values({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}), 16)) ==
          "good");
    CHECK(said(trio.second.none(bytes_of_values({0x1e, 0, 0, 0, 0, 0}))) == "good");
    CHECK(said(trio.second.none(bytes_of_values({0x1e, 0, 0, 0, 1, 0}))) == "conflict");
    CHECK(said(trio.second.test_unit_ready()) == "conflict");
    const Bytes mode_sense = bytes_of_values({0x1a, 0, 0x3f, 0, 255, 0});
    CHECK(said(trio.initiator.in(mode_sense, 255)) == "good");
    CHECK(said(trio.second.in(mode_sense, 255)) == "conflict");
    CHECK(Trio::send(trio.second, {.action = register_key, .action_key = key2}) == "conflict");
    CHECK(said(trio.second.none(give)) == "good");  // not its own: nothing happens
    CHECK(said(trio.second.none(take)) == "conflict");
    CHECK(said(trio.initiator.none(give)) == "good");
    CHECK(said(trio.second.none(take)) == "good");
    trio.unit.reset();
    trio.initiator.settle();
    CHECK(said(trio.initiator.none(take)) == "good");
    Bytes third_party = take;
    third_party[1] = std::byte{0x10};
    CHECK(field(trio.initiator.none(third_party)) == "cdb 1.4");
  }
}

TEST_CASE("RESERVE beside registrations does nothing for registrants, and is refused to others") {
  Trio trio;
  trio.register_two();
  CHECK(said(trio.initiator.none(cdb6(0x16, {}))) == "good");
  CHECK(said(trio.initiator.none(cdb6(0x17, {}))) == "good");
  CHECK(said(trio.third.none(cdb6(0x16, {}))) == "conflict");
  CHECK(writing(trio.third) == "good");
}

}  // namespace
}  // namespace vhdkit::scsi
