#include "hypervisor/control/commands.h"

#include <doctest/doctest.h>

#include "hypervisor/control/test_controls.h"

namespace vhdkit::hypervisor {
namespace {

Json ask(Controls& controls, std::string_view line) {
  const std::string answer = answer_to(line, controls);
  CHECK(answer.find('\n') == std::string::npos);
  return Json::parse(answer);
}

TEST_CASE("a command is done, and answered under its number") {
  TestControls controls;
  CHECK(ask(controls, R"({"id": 7, "command": "pause"})") ==
        Json::parse(R"({"id": 7, "result": {}})"));
  CHECK(ask(controls, R"({"command": "status", "id": "a name"})") ==
        Json::parse(R"({"id": "a name", "result": {"state": "xxxxxxx"}})"));
  CHECK(ask(controls, R"({"command": "counters"})") ==
        Json::parse(R"({"id": null, "result": {"exits": 3}})"));
  CHECK(controls.calls() == std::vector<std::string>{"pause", "status", "counters"});
}

TEST_CASE("every command reaches its function") {
  for (const char* const name : {"status", "counters", "pause", "resume", "power-off", "reset"}) {
    TestControls controls;
    CAPTURE(name);
    CHECK(ask(controls, Json({{"command", name}}).dump()).contains("result"));
    CHECK(controls.calls() == std::vector<std::string>{name});
  }
}

TEST_CASE("a command's parameters reach it") {
  const struct {
    const char* line;
    const char* call;
    const char* result;
  } cases[] = {
      {R"({"command": "add-disk", "disk": "/a,,b.vhdx,ro"})", "add-disk /a,,b.vhdx,ro",
       R"({"disk": 1})"},
      {R"({"command": "remove-disk", "disk": 0})", "remove-disk number 0", "{}"},
      {R"({"command": "remove-disk", "disk": 18446744073709551615})",
       "remove-disk number 18446744073709551615", "{}"},
      {R"({"command": "remove-disk", "disk": "/a.vhdx"})", "remove-disk file /a.vhdx", "{}"},
      {R"({"command": "snapshot"})", "snapshot of all", R"({"snapshots": []})"},
      {R"({"command": "snapshot", "disk": 3})", "snapshot number 3", R"({"snapshots": []})"},
      {R"({"command": "snapshot", "disk": 3, "freeze": false})", "snapshot number 3",
       R"({"snapshots": []})"},
      {R"({"command": "snapshot", "freeze": true})", "snapshot of all, frozen",
       R"({"snapshots": []})"},
      {R"({"command": "resize-disk", "disk": 1, "size": 4096})", "resize-disk number 1 to 4096",
       R"({"virtual-size": 1})"},
      {R"({"command": "resize-disk", "disk": "/a.vhdx", "size": "-1G", "shrink": true})",
       "resize-disk file /a.vhdx to -1G, shrinking", R"({"virtual-size": 1})"},
      {R"({"command": "resize-disk", "disk": 1, "size": "+1G", "shrink": false})",
       "resize-disk number 1 to +1G", R"({"virtual-size": 1})"},
      {R"({"command": "shut-down"})", "shut-down", "{}"},
      {R"({"command": "restart"})", "restart", "{}"},
      {R"({"command": "insert-media", "filename": "/a.iso"})", "insert-media /a.iso", "{}"},
      {R"({"command": "eject-media"})", "eject-media", "{}"},
  };
  for (const auto& one : cases) {
    TestControls controls;
    CAPTURE(one.line);
    CHECK(ask(controls, one.line)["result"] == Json::parse(one.result));
    CHECK(controls.calls() == std::vector<std::string>{one.call});
  }
}

TEST_CASE("why a command was not done") {
  TestControls controls;
  controls.fail_with({.code = Errc::no_space, .message = "the disk is full"});
  CHECK(ask(controls, R"({"id": 1, "command": "reset"})") ==
        Json::parse(R"({"id": 1, "error": {"kind": "no-space", "message": "the disk is full"}})"));
}

TEST_CASE("what is no request does nothing") {
  const std::string deep =
      R"({"command": )" + std::string(30000, '[') + std::string(30000, ']') + "}";
  const std::string long_id = R"({"command": "reset", "id": ")" + std::string(257, 'i') + "\"}";
  const struct {
    std::string line;
    const char* kind;
    const char* says;
  } cases[] = {
      {"", "bad-request", "a JSON object"},
      {"garbage", "bad-request", "a JSON object"},
      {"\xff\xfe\x00", "bad-request", "a JSON object"},
      {"[1, 2]", "bad-request", "a JSON object"},
      {R"("reset")", "bad-request", "a JSON object"},
      {R"({"command": "reset"} {"command": "reset"})", "bad-request", "a JSON object"},
      {R"({"command": "reset")", "bad-request", "a JSON object"},
      {R"({"command": "re)"
       "\xc3"
       R"(set"})",
       "bad-request", "a JSON object"},
      {deep, "bad-request", "a JSON object"},
      {"{}", "bad-request", "\"command\""},
      {R"({"command": 3})", "bad-request", "\"command\""},
      {R"({"command": null})", "bad-request", "\"command\""},
      {R"({"command": "reset", "id": [1]})", "bad-request", "\"id\""},
      {R"({"command": "reset", "id": {"a": 1}})", "bad-request", "\"id\""},
      {R"({"command": "reset", "id": true})", "bad-request", "\"id\""},
      {long_id, "bad-request", "\"id\""},
      {R"({"command": "reset", "disk": 1})", "bad-request", "takes no \"disk\""},
      {R"({"command": "add-disk"})", "bad-request", "needs \"disk\""},
      {R"({"command": "add-disk", "disk": 3})", "bad-request", "\"disk\" is text"},
      {R"({"command": "add-disk", "disk": ""})", "bad-request", "\"disk\" is text"},
      {R"({"command": "add-disk", "disk": ["a"]})", "bad-request", "\"disk\" is text"},
      {R"({"command": "remove-disk"})", "bad-request", "needs \"disk\""},
      {R"({"command": "remove-disk", "disk": -1})", "bad-request", "a disk's number"},
      {R"({"command": "remove-disk", "disk": 1.5})", "bad-request", "a disk's number"},
      {R"({"command": "remove-disk", "disk": 18446744073709551616})", "bad-request",
       "a disk's number"},
      {R"({"command": "remove-disk", "disk": null})", "bad-request", "a disk's number"},
      {R"({"command": "snapshot", "disk": {}})", "bad-request", "a disk's number"},
      {R"({"command": "snapshot", "freeze": 1})", "bad-request", "\"freeze\" is true or false"},
      {R"({"command": "resize-disk", "size": 4096})", "bad-request", "needs \"disk\""},
      {R"({"command": "resize-disk", "disk": 1})", "bad-request", "needs \"size\""},
      {R"({"command": "resize-disk", "disk": 1, "size": -1})", "bad-request", "a number of bytes"},
      {R"({"command": "resize-disk", "disk": 1, "size": 1.5})", "bad-request", "a number of bytes"},
      {R"({"command": "resize-disk", "disk": 1, "size": ""})", "bad-request", "a number of bytes"},
      {R"({"command": "resize-disk", "disk": 1, "size": 1, "shrink": 1})", "bad-request",
       "\"shrink\" is true or false"},
      {R"({"command": "snapshot", "shrink": true})", "bad-request", "takes no \"shrink\""},
      {R"({"command": "shut-down", "freeze": true})", "bad-request", "takes no \"freeze\""},
      {R"({"command": "insert-media", "disk": "a.iso"})", "bad-request", "needs \"filename\""},
      {R"({"command": "explode"})", "unknown-command", "no such command"},
      {R"({"command": ""})", "unknown-command", "no such command"},
  };
  for (const auto& one : cases) {
    TestControls controls;
    CAPTURE(one.line.substr(0, 100));
    const Json answer = ask(controls, one.line);
    CHECK(answer["id"] == nullptr);
    CHECK(answer["error"]["kind"] == one.kind);
    CHECK(answer["error"]["message"].get<std::string>().find(one.says) != std::string::npos);
    CHECK(controls.calls().empty());
  }
}

TEST_CASE("a refused request keeps its number") {
  TestControls controls;
  const Json answer = ask(controls, R"({"id": 9, "command": "explode"})");
  CHECK(answer["id"] == 9);
  CHECK(answer["error"]["kind"] == "unknown-command");
}

TEST_CASE("an error's bytes that are no text become some") {
  TestControls controls;
  controls.fail_with({.code = Errc::not_found, .message = "\xff.vhdx"});
  CHECK(ask(controls, R"({"command": "reset"})")["error"]["message"] == "\xef\xbf\xbd.vhdx");
}

}  // namespace
}  // namespace vhdkit::hypervisor
