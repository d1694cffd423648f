#include "hypervisor/control/commands.h"

#include <algorithm>
#include <span>

namespace vhdkit::hypervisor {
namespace {

constexpr size_t max_id_bytes = 256;
// Deeper than any request: what is nested further is refused while it is read.
constexpr int max_depth = 4;

constexpr std::string_view bad_request = "bad-request";

enum class Kind : uint8_t { text, disk, truth, size };

struct Parameter {
  std::string_view name;
  Kind kind;
  bool is_required;

  bool fits(const Json& value) const {
    if (kind == Kind::truth) return value.is_boolean();
    const bool may_be_number = kind == Kind::disk || kind == Kind::size;
    if (may_be_number && value.is_number_unsigned()) return true;
    return value.is_string() && !value.get_ref<const std::string&>().empty();
  }
};

struct Command {
  std::string_view name;
  std::span<const Parameter> parameters;
  Result<Json> (*run)(Controls& controls, const Json& request);
};

// Why a request is none that can be done.
struct Refusal {
  std::string_view kind;
  std::string message;
};

template <Result<void> (Controls::*act)()>
Result<Json> just(Controls& controls, const Json&) {
  TRY((controls.*act)());
  return Json::object();
}

Result<Json> status(Controls& controls, const Json&) { return controls.status(); }
Result<Json> counters(Controls& controls, const Json&) { return controls.counters(); }

std::string text_of(const Json& request, const char* key) {
  return request[key].get<std::string>();
}

DiskName disk_of(const Json& request) {
  const Json& name = request["disk"];
  if (name.is_number_unsigned()) return name.get<uint64_t>();
  return name.get<std::string>();
}

std::string size_of(const Json& request) {
  const Json& size = request["size"];
  if (size.is_number_unsigned()) return std::to_string(size.get<uint64_t>());
  return size.get<std::string>();
}

Result<Json> add_disk(Controls& controls, const Json& request) {
  return controls.add_disk(text_of(request, "disk"));
}

Result<Json> remove_disk(Controls& controls, const Json& request) {
  TRY(controls.remove_disk(disk_of(request)));
  return Json::object();
}

Result<Json> snapshot(Controls& controls, const Json& request) {
  std::optional<DiskName> name;
  if (request.contains("disk")) name = disk_of(request);
  return controls.snapshot(name, request.value("freeze", false));
}

Result<Json> resize_disk(Controls& controls, const Json& request) {
  return controls.resize_disk(disk_of(request), size_of(request), request.value("shrink", false));
}

template <bool restarts>
Result<Json> shut_down(Controls& controls, const Json&) {
  TRY(controls.shut_down(restarts));
  return Json::object();
}

Result<Json> insert_media(Controls& controls, const Json& request) {
  TRY(controls.insert_media(text_of(request, "filename")));
  return Json::object();
}

constexpr Parameter new_disk[] = {{"disk", Kind::text, true}};
constexpr Parameter a_disk[] = {{"disk", Kind::disk, true}};
constexpr Parameter of_a_snapshot[] = {{"disk", Kind::disk, false}, {"freeze", Kind::truth, false}};
constexpr Parameter of_a_resize[] = {
    {"disk", Kind::disk, true}, {"size", Kind::size, true}, {"shrink", Kind::truth, false}};
constexpr Parameter a_file[] = {{"filename", Kind::text, true}};

constexpr Command commands[] = {
    {"status", {}, status},
    {"counters", {}, counters},
    {"pause", {}, just<&Controls::pause>},
    {"resume", {}, just<&Controls::resume>},
    {"shut-down", {}, shut_down<false>},
    {"restart", {}, shut_down<true>},
    {"power-off", {}, just<&Controls::power_off>},
    {"reset", {}, just<&Controls::reset>},
    {"add-disk", new_disk, add_disk},
    {"remove-disk", a_disk, remove_disk},
    {"snapshot", of_a_snapshot, snapshot},
    {"resize-disk", of_a_resize, resize_disk},
    {"insert-media", a_file, insert_media},
    {"eject-media", {}, just<&Controls::eject_media>},
};

std::string_view kind_of(Errc code) {
  switch (code) {
    case Errc::io:
      return "io";
    case Errc::corrupt:
      return "corrupt";
    case Errc::unsupported:
      return "unsupported";
    case Errc::invalid_argument:
      return "invalid-argument";
    case Errc::out_of_range:
      return "out-of-range";
    case Errc::not_found:
      return "not-found";
    case Errc::exists:
      return "exists";
    case Errc::read_only:
      return "read-only";
    case Errc::busy:
      return "busy";
    case Errc::no_space:
      return "no-space";
    case Errc::permission:
      return "permission";
    case Errc::wrong_parent:
      return "wrong-parent";
    case Errc::interrupted:
      return "interrupted";
  }
  __builtin_unreachable();
}

std::string line_of(const Json& answer) {
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json error_of(std::string_view kind, std::string_view message) {
  return {{"kind", kind}, {"message", message}};
}

// Discarded where the text is no JSON, or is nested too deep.
Json parse(std::string_view line) {
  bool is_too_deep = false;
  const Json::parser_callback_t look = [&](int depth, Json::parse_event_t, Json&) {
    is_too_deep |= depth > max_depth;
    return !is_too_deep;
  };
  Json parsed = Json::parse(line, look, false);
  return is_too_deep ? Json(Json::value_t::discarded) : parsed;
}

bool may_be_id(const Json& id) {
  return id.is_null() || id.is_number() ||
         (id.is_string() && id.get_ref<const std::string&>().size() <= max_id_bytes);
}

std::optional<Refusal> objection(const Json& request) {
  if (!request.is_object())
    return Refusal{bad_request, "a request is a JSON object on a line of its own"};
  if (request.contains("id") && !may_be_id(request["id"]))
    return Refusal{bad_request, "\"id\" is null, a number, or a text of at most 256 bytes"};
  if (!request.contains("command") || !request["command"].is_string())
    return Refusal{bad_request, "\"command\" is missing, or no text"};
  return std::nullopt;
}

const Command* find(const Json& request) {
  const auto& name = request["command"].get_ref<const std::string&>();
  const auto found = std::ranges::find(commands, name, &Command::name);
  return found == std::end(commands) ? nullptr : found;
}

std::string in_quotes(std::string_view name) { return "\"" + std::string(name) + "\""; }

std::string_view expected(Kind kind) {
  switch (kind) {
    case Kind::text:
      return " is text";
    case Kind::disk:
      return " is a disk's number, or its file";
    case Kind::truth:
      return " is true or false";
    case Kind::size:
      return " is a number of bytes, or text as vhd resize takes it";
  }
  __builtin_unreachable();
}

std::optional<Refusal> objection(const Json& request, const Command& command) {
  for (const Parameter& parameter : command.parameters) {
    const std::string key(parameter.name);
    if (!request.contains(key)) {
      if (!parameter.is_required) continue;
      return Refusal{bad_request, in_quotes(command.name) + " needs " + in_quotes(key)};
    }
    if (!parameter.fits(request[key]))
      return Refusal{bad_request, in_quotes(key) + std::string(expected(parameter.kind))};
  }
  for (const auto& [key, value] : request.items()) {
    const bool is_known =
        key == "id" || key == "command" ||
        std::ranges::find(command.parameters, key, &Parameter::name) != command.parameters.end();
    if (!is_known)
      return Refusal{bad_request, in_quotes(command.name) + " takes no " + in_quotes(key)};
  }
  return std::nullopt;
}

// The members of the answer beside "id".
Json outcome_of(const Json& request, Controls& controls) {
  if (const auto refused = objection(request))
    return {{"error", error_of(refused->kind, refused->message)}};
  const Command* const command = find(request);
  if (command == nullptr)
    return {{"error", error_of("unknown-command", "there is no such command")}};
  if (const auto refused = objection(request, *command))
    return {{"error", error_of(refused->kind, refused->message)}};
  auto result = command->run(controls, request);
  if (!result) return {{"error", error_of(kind_of(result.error().code), result.error().message)}};
  return {{"result", std::move(*result)}};
}

}  // namespace

std::string answer_to(std::string_view line, Controls& controls) {
  const Json request = parse(line);
  Json answer = {{"id", nullptr}};
  if (request.is_object() && request.contains("id") && may_be_id(request["id"]))
    answer["id"] = request["id"];
  answer.update(outcome_of(request, controls));
  return line_of(answer);
}

std::string error_line(std::string_view kind, std::string_view message) {
  return line_of({{"id", nullptr}, {"error", error_of(kind, message)}});
}

}  // namespace vhdkit::hypervisor
