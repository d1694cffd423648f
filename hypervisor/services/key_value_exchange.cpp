#include "hypervisor/services/key_value_exchange.h"

#include <fmt/format.h>

#include <algorithm>
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

StoredKeyValue stored(const KeyValue& entry) {
  StoredKeyValue result{};
  result.value_type = uint32_t(ValueType::string);
  result.key_bytes = uint32_t(put_wire_text(entry.key, result.key));
  result.value_bytes = uint32_t(put_wire_text(entry.value, result.value));
  return result;
}

}  // namespace

KeyValueExchange::KeyValueExchange(const Host& host) : Service(host, kind) {}

// --- what people want ---

void KeyValueExchange::enumerate(Pool pool, ValuesDone done) {
  begin({KeyValueOperation::enumerate, pool, {}, std::move(done)});
}

void KeyValueExchange::get(Pool pool, const std::string& key, ValuesDone done) {
  begin({KeyValueOperation::get, pool, {.key = key, .value = {}}, std::move(done)});
}

void KeyValueExchange::set(Pool pool, const KeyValue& entry, ValuesDone done) {
  begin({KeyValueOperation::set, pool, entry, std::move(done)});
}

void KeyValueExchange::remove(Pool pool, const std::string& key, ValuesDone done) {
  begin({KeyValueOperation::remove, pool, {.key = key, .value = {}}, std::move(done)});
}

void KeyValueExchange::begin(Job job) {
  if (const auto checked = check(job); !checked) return job.done(std::unexpected(checked.error()));
  jobs_.push_back(std::move(job));
  go_on();
}

Result<void> KeyValueExchange::check(const Job& job) const {
  if (jobs_.size() >= max_waiting) return fail(Errc::busy, "too many requests wait for the guest");
  if (job.operation == KeyValueOperation::enumerate) return {};
  const auto fits = [](const std::string& text, size_t most) {
    return wire_text_bytes(text) <= most;
  };
  if (job.entry.key.empty() || !fits(job.entry.key, max_key_bytes))
    return fail(Errc::invalid_argument, "a key has 1 to 255 UTF-16 units");
  if (!fits(job.entry.value, max_value_bytes))
    return fail(Errc::invalid_argument, "a value has at most 1023 UTF-16 units");
  return {};
}

// --- one after another ---

void KeyValueExchange::go_on() {
  while (!jobs_.empty() && !asked_) {
    const auto asked = ask(jobs_.front());
    if (asked) {
      asked_ = *asked;
    } else {
      finish(asked.error());
    }
  }
}

Result<uint8_t> KeyValueExchange::ask(const Job& job) {
  const Time deadline = now() + patience;
  const KeyValueHeader header{
      .operation = uint8_t(job.operation), .pool = uint8_t(job.pool), .padding = 0};
  if (job.operation == KeyValueOperation::enumerate) {
    const EnumerateBody body{.header = header, .index = uint32_t(job.found.size()), .entry = {}};
    return request(bytes_of(body), deadline);
  }
  if (job.operation == KeyValueOperation::remove) {
    RemoveKeyBody body{.header = header, .key_bytes = 0, .key = {}};
    body.key_bytes = uint32_t(put_wire_text(job.entry.key, body.key));
    return request(bytes_of(body), deadline);
  }
  const KeyValueBody body{.header = header, .entry = stored(job.entry)};
  return request(bytes_of(body), deadline);
}

Result<void> KeyValueExchange::answered(const Answer& answer) {
  if (asked_ != answer.transaction) return {};
  asked_.reset();
  TRY(take(answer));
  go_on();
  return {};
}

Result<void> KeyValueExchange::take(const Answer& answer) {
  Job& job = jobs_.front();
  const bool is_enumeration = job.operation == KeyValueOperation::enumerate;
  if (answer.status == status_no_more_items) {
    if (is_enumeration) {
      finish(std::move(job.found));
    } else {
      finish({.code = Errc::not_found, .message = "the guest has no key " + job.entry.key});
    }
    return {};
  }
  if (answer.status != status_success) {
    finish({.code = Errc::io, .message = "the guest: " + to_string_of_status(answer.status)});
    return {};
  }
  if (is_enumeration) return take_enumerated(answer.body);
  if (job.operation == KeyValueOperation::get) {
    const auto body = load<KeyValueBody>(answer.body);
    if (!body) return fail(Errc::corrupt, "its answer with a value is cut off");
    TRY_LET(std::string value, value_of(body->entry));
    job.found.push_back({.key = job.entry.key, .value = std::move(value)});
  }
  finish(std::move(job.found));
  return {};
}

Result<void> KeyValueExchange::take_enumerated(std::span<const std::byte> body_bytes) {
  Job& job = jobs_.front();
  const auto body = load<EnumerateBody>(body_bytes);
  if (!body) return fail(Errc::corrupt, "its answer with a key and a value is cut off");
  TRY_LET(std::string key, text_of(body->entry.key, body->entry.key_bytes, "key"));
  TRY_LET(std::string value, value_of(body->entry));
  job.found.push_back({.key = std::move(key), .value = std::move(value)});
  if (job.found.size() == max_entries) finish(std::move(job.found));
  return {};
}

void KeyValueExchange::unanswered(uint8_t transaction) {
  if (asked_ != transaction) return;
  asked_.reset();
  finish({.code = Errc::io, .message = "the guest's key-value daemon does not answer"});
  go_on();
}

void KeyValueExchange::finish(const Error& error) {
  finish(Result<std::vector<KeyValue>>(std::unexpected(error)));
}

void KeyValueExchange::finish(Result<std::vector<KeyValue>> outcome) {
  const ValuesDone done = std::move(jobs_.front().done);
  jobs_.pop_front();
  done(std::move(outcome));
}

// --- what the guest says of itself ---

void KeyValueExchange::agreed() {
  guest_values_.clear();
  due();
}

void KeyValueExchange::due() {
  set_due(now() + refresh_interval, slack_of_routine);
  enumerate(Pool::automatic, [this](const Result<std::vector<KeyValue>>& values) {
    if (values) guest_values_ = *values;
  });
}

void KeyValueExchange::ended() {
  asked_.reset();
  while (!jobs_.empty())
    finish({.code = Errc::io, .message = "the guest was gone before it answered"});
}

void KeyValueExchange::add_to(nlohmann::ordered_json& report) const {
  nlohmann::ordered_json& values = report["guest"] = nlohmann::ordered_json::object();
  for (const KeyValue& one : guest_values_) values[one.key] = one.value;
}

}  // namespace vhdkit::services
