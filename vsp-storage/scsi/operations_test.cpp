#include "vsp-storage/scsi/operations.h"

#include <algorithm>
#include <set>

#include "vsp-storage/scsi/optical_unit.h"
#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

struct Ask {
  unsigned option = 0;
  bool timeouts = false;
  unsigned opcode = 0;
  unsigned action = 0;
};
Bytes report(const Ask& ask) {
  return bytes_of_values({0xa3, 0x0c, ask.option | (ask.timeouts ? 0x80U : 0U), ask.opcode, 0,
                          ask.action, 0, 0, 0xff, 0xff, 0, 0});
}

struct Descriptor {
  unsigned opcode;
  unsigned action;
  bool has_action;
  uint64_t cdb_bytes;
};

std::vector<Descriptor> all_of(TestInitiator& initiator, bool timeouts) {
  REQUIRE(said(initiator.in(report({.timeouts = timeouts}), 65535)) == "good");
  const Bytes& data = initiator.data();
  const uint64_t end = value_at(data, 0, 4) + 4;
  std::vector<Descriptor> found;
  for (size_t at = 4; at < end; at += timeouts ? 20 : 8) {
    const uint64_t flags = value_at(data, at + 5, 1);
    CHECK((flags & 2) == (timeouts ? 2 : 0));
    if (timeouts) CHECK(value_at(data, at + 8, 2) == 10);
    found.push_back({.opcode = unsigned(value_at(data, at, 1)),
                     .action = unsigned(value_at(data, at + 2, 2)),
                     .has_action = (flags & 1) != 0,
                     .cdb_bytes = value_at(data, at + 6, 2)});
  }
  return found;
}

TEST_CASE("REPORT SUPPORTED OPCODES: Simple, SERVACTV: each once, in order") {
  TestDisk test;
  const auto all = all_of(test.initiator, false);
  CHECK(all.size() == 54);
  unsigned last = 0;
  for (const Descriptor& each : all) {
    if (!each.has_action) CHECK(each.action == 0);
    const unsigned order = each.opcode << 8 | each.action;
    CHECK(order >= last);
    last = order;
    constexpr uint64_t bytes_of_group[] = {6, 10, 10, 0, 16, 12, 0, 0};
    CHECK(each.cdb_bytes == bytes_of_group[each.opcode >> 5]);
  }
  for (const unsigned mandatory : {0x00U, 0x12U, 0x25U, 0x28U, 0x88U, 0x9eU, 0xa0U})
    CHECK(std::ranges::find(all, mandatory, &Descriptor::opcode) != all.end());
}

TEST_CASE("REPORT SUPPORTED OPCODES: OneCommand, RCTD") {
  TestDisk test;
  for (const bool timeouts : {false, true})
    for (const Descriptor& each : all_of(test.initiator, timeouts)) {
      CAPTURE(each.opcode);
      const Ask by_opcode{1, timeouts, each.opcode, 0};
      const Ask by_action{2, timeouts, each.opcode, each.action};
      const Ask either{3, timeouts, each.opcode, each.action};
      CHECK(said(test.initiator.in(report(by_opcode), 255)) ==
            (each.has_action ? "5/24/00" : "good"));
      CHECK(said(test.initiator.in(report(by_action), 255)) ==
            (each.has_action ? "good" : "5/24/00"));
      const Outcome outcome = test.initiator.in(report(either), 255);
      CHECK(said(outcome) == "good");
      const Bytes& data = test.initiator.data();
      CHECK(value_at(data, 1, 1) == (timeouts ? 0x83 : 0x03));
      CHECK(value_at(data, 2, 2) == each.cdb_bytes);
      CHECK(value_at(data, 4, 1) == each.opcode);
      if (each.has_action) CHECK((value_at(data, 5, 1) & 0x1f) == each.action);
      CHECK(outcome.transferred_bytes == 4 + each.cdb_bytes + (timeouts ? 12 : 0));
    }
}

TEST_CASE("REPORT SUPPORTED OPCODES: what is not supported, and what is not asked for well") {
  TestDisk test;
  for (const unsigned option : {1U, 2U, 3U}) {
    CHECK(test.initiator.in(report({.option = option, .opcode = 0x04}), 255).transferred_bytes ==
          4);
    CHECK(value_at(test.initiator.data(), 1, 1) == 1);
  }
  CHECK(test.initiator.in(report({2, false, 0x9e, 0x1f}), 255).transferred_bytes == 4);
  CHECK(value_at(test.initiator.data(), 1, 1) == 1);
  for (const unsigned option : {4U, 7U})
    CHECK(field(test.initiator.in(report({.option = option}), 255)) == "cdb 2.2");
  TestDisk thick((DiskUnitOptions()));
  CHECK(said(thick.initiator.in(report({.option = 1, .opcode = 0x42}), 255)) == "good");
  CHECK(value_at(thick.initiator.data(), 1, 1) == 1);
  CHECK(all_of(thick.initiator, false).size() == 53);
}

TEST_CASE("what is reported is known, and nothing else is") {
  TestDisk test;
  std::set<unsigned> known;
  for (const Descriptor& each : all_of(test.initiator, false)) known.insert(each.opcode);
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    CAPTURE(opcode);
    Bytes cdb(16);
    cdb[0] = std::byte(opcode);
    CHECK((said(test.initiator.none(cdb)) == "5/20/00") == !known.contains(opcode));
  }
}

TEST_CASE("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: the reset of a unit") {
  TestDisk test;
  const Bytes cdb = bytes_of_values({0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0});
  CHECK(test.initiator.in(cdb, 16).transferred_bytes == 4);
  CHECK(value_at(test.initiator.data(), 0, 4) == 0x08000000);
  Bytes extended = cdb;
  extended[2] = std::byte{0x80};
  CHECK(test.initiator.in(extended, 16).transferred_bytes == 16);
}

TEST_CASE("tables are well made") {
  for (const auto& operations : {disk_operations(true), optical_operations()})
    for (const Operation* const each : operations) {
      CAPTURE(each->name);
      CHECK(each->usage[0] == each->opcode);
      CHECK(each->usage[each->cdb_bytes - 1u] != 0);
      for (size_t i = each->cdb_bytes; i < each->usage.size(); ++i) CHECK(each->usage[i] == 0);
      if (each->service_action >= 0)
        CHECK((each->usage[1] & 0x1f) == unsigned(each->service_action));
    }
}

}  // namespace
}  // namespace vhdkit::scsi
