#include "hypervisor/services/key_value_exchange.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "hypervisor/services/wire_text.h"

namespace vhdkit::services {
namespace {

constexpr Service::Kind kind{.name = "key-value-exchange",
                             .interface_type = key_value_exchange_interface,
                             .instance = Guid::literal("242ff919-07db-4180-9c2e-b86cb68c8c55"),
                             .type = MessageType::key_value_exchange,
                             .versions = key_value_exchange_versions};

// Lengths of the other side's, which count the zero behind the text.
Result<std::string> text_of(std::span<const std::byte> field, uint32_t byte_count,
                            const char* what) {
  if (byte_count <= field.size() && byte_count % 2 == 0)
    return utf8_of_wire(field.first(byte_count));
  return fail(Errc::corrupt,
              fmt::format("a {} of {} bytes, where {} have room", what, byte_count, field.size()));
}

Result<std::string> value_of(const StoredKeyValue& entry) {
  switch (ValueType(uint32_t{entry.value_type})) {
    case ValueType::string:
      return text_of(entry.value, entry.value_bytes, "value");
    case ValueType::number32:
      return std::to_string(uint32_t{*load<le32>(entry.value)});
    case ValueType::number64:
      return std::to_string(uint64_t{*load<le64>(entry.value)});
  }
  return fail(Errc::corrupt,
              fmt::format("a value of type {}, which there is not", uint32_t{entry.value_type}));
}

}  // namespace

KeyValueExchange::KeyValueExchange(const Host& host) : Service(host, kind) {}

void KeyValueExchange::agreed() {
  guest_values_.clear();
  due();
}

void KeyValueExchange::due() {
  set_due(now() + refresh_interval, slack_of_routine);
  if (asked_) return;
  found_.clear();
  ask_for_next();
}

void KeyValueExchange::ask_for_next() {
  const KeyValueHeader header{.operation = uint8_t(KeyValueOperation::enumerate),
                              .pool = uint8_t(KeyValuePool::automatic),
                              .padding = 0};
  const EnumerateBody body{.header = header, .index = uint32_t(found_.size()), .entry = {}};
  // A guest that cannot be asked now is asked again in half a minute.
  const auto asked = request(bytes_of(body), now() + patience);
  if (asked) asked_ = *asked;
}

Result<void> KeyValueExchange::answered(const Answer& answer) {
  if (asked_ != answer.transaction) return {};
  asked_.reset();
  if (answer.status == status_no_more_items) {
    finish();
    return {};
  }
  if (answer.status != status_success) return {};
  TRY(take(answer.body));
  if (found_.size() == max_entries) {
    finish();
  } else {
    ask_for_next();
  }
  return {};
}

Result<void> KeyValueExchange::take(std::span<const std::byte> body_bytes) {
  const auto body = load<EnumerateBody>(body_bytes);
  if (!body) return fail(Errc::corrupt, "its answer with a key and a value is cut off");
  TRY_LET(std::string key, text_of(body->entry.key, body->entry.key_bytes, "key"));
  TRY_LET(std::string value, value_of(body->entry));
  found_.push_back({.key = std::move(key), .value = std::move(value)});
  return {};
}

void KeyValueExchange::finish() { guest_values_ = std::move(found_); }

void KeyValueExchange::unanswered(uint8_t transaction) {
  if (asked_ == transaction) asked_.reset();
}

void KeyValueExchange::ended() { asked_.reset(); }

void KeyValueExchange::add_to(nlohmann::ordered_json& report) const {
  nlohmann::ordered_json& values = report["guest"] = nlohmann::ordered_json::object();
  for (const KeyValue& one : guest_values_) values[one.key] = one.value;
}

}  // namespace vhdkit::services
