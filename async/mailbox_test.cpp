#include "async/mailbox.h"

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/await.h"

namespace vhdkit::async {
namespace {

class TestLetter final : public Letter {
 public:
  explicit TestLetter(std::function<void()> act) : act_(std::move(act)) {}
  void open() override { act_(); }

 private:
  std::function<void()> act_;
};

// Each sender posts its letter again and again; the receiver sees the last value of each.
struct Sender {
  Sender(Mailbox& mailbox, std::function<void()> when_last)
      : letter([this, when_last] {
          ++opened_count;
          if (value.load() == last) when_last();
        }),
        thread([this, &mailbox] {
          for (int i = 1; i <= last; ++i) {
            value = i;
            mailbox.post(letter);
          }
        }) {}
  ~Sender() { thread.join(); }

  static constexpr int last = 10000;
  std::atomic<int> value = 0;
  int opened_count = 0;
  TestLetter letter;
  std::thread thread;
};

TEST_CASE("letters of several threads arrive, and none that was posted last is missed") {
  for (const Engine engine : {Engine::automatic, Engine::synchronous}) {
    auto loop = Loop::create({.engine = engine});
    REQUIRE_OK(loop);
    Mailbox mailbox(**loop);
    int finished_count = 0;
    const auto when_last = [&] {
      if (++finished_count == 3) mailbox.close();
    };
    {
      // One that comes once more after its last value counts twice, so it says so only once.
      std::vector<bool> has_finished(3, false);
      std::vector<std::unique_ptr<Sender>> senders;
      for (size_t i = 0; i < 3; ++i)
        senders.push_back(std::make_unique<Sender>(mailbox, [&, i] {
          if (!has_finished[i]) when_last();
          has_finished[i] = true;
        }));
      (*loop)->run(mailbox.serve());
      CHECK(finished_count == 3);
      for (const auto& sender : senders) {
        CHECK(sender->opened_count >= 1);
        CHECK(sender->opened_count <= Sender::last);
      }
    }
  }
}

TEST_CASE("letters come in the order in which they were posted") {
  auto loop = Loop::create();
  REQUIRE_OK(loop);
  Mailbox mailbox(**loop);
  std::vector<int> order;
  TestLetter first([&] { order.push_back(1); });
  TestLetter second([&] { order.push_back(2); });
  TestLetter third([&] {
    order.push_back(3);
    mailbox.close();
  });
  mailbox.post(first);
  mailbox.post(second);
  mailbox.post(first);
  mailbox.post(third);
  (*loop)->run(mailbox.serve());
  CHECK(order == std::vector<int>{1, 2, 3});
}

Task<void> two_turns(Loop& loop, std::vector<int>& order, int number) {
  order.push_back(number);
  co_await loop.turn();
  order.push_back(number);
  co_await loop.turn();
  order.push_back(number);
}

Task<void> both(Loop& loop, std::vector<int>& order) {
  Task<void> first = two_turns(loop, order, 1);
  Task<void> second = two_turns(loop, order, 2);
  first.start();
  second.start();
  while (!first.done() || !second.done()) co_await loop.turn();
}

TEST_CASE("a turn comes after everybody else's") {
  for (const Engine engine : {Engine::automatic, Engine::synchronous}) {
    auto loop = Loop::create({.engine = engine});
    REQUIRE_OK(loop);
    std::vector<int> order;
    (*loop)->run(both(**loop, order));
    CHECK(order == std::vector<int>{1, 2, 1, 2, 1, 2});
  }
}

// Runs the mailbox until it is closed, which one of its letters has to do.
void serve(Engine engine, const std::function<void(Mailbox&)>& begin) {
  auto loop = Loop::create({.engine = engine});
  REQUIRE_OK(loop);
  Mailbox mailbox(**loop);
  begin(mailbox);
  (*loop)->run(mailbox.serve());
}

TEST_CASE("an alarm rings once its time has come, and letters arrive before it") {
  using Clock = std::chrono::steady_clock;
  for (const Engine engine : {Engine::automatic, Engine::synchronous}) {
    std::vector<std::string> opened;
    Clock::time_point rung_at;
    TestLetter letter([&] { opened.emplace_back("letter"); });
    Mailbox* closed = nullptr;
    TestLetter alarm([&] {
      opened.emplace_back("alarm");
      rung_at = Clock::now();
      closed->close();
    });
    const auto due = Clock::now() + std::chrono::milliseconds(30);
    serve(engine, [&](Mailbox& mailbox) {
      closed = &mailbox;
      mailbox.set_alarm(due, alarm);
      mailbox.post(letter);
    });
    CHECK(opened == std::vector<std::string>{"letter", "alarm"});
    CHECK(rung_at >= due);
  }
}

TEST_CASE("only the alarm that was set last rings, and none that was cleared") {
  using Clock = std::chrono::steady_clock;
  for (const Engine engine : {Engine::automatic, Engine::synchronous}) {
    std::vector<std::string> opened;
    Mailbox* served = nullptr;
    TestLetter end([&] {
      opened.emplace_back("end");
      served->close();
    });
    TestLetter wrong([&] { opened.emplace_back("wrong"); });
    TestLetter second([&] {
      opened.emplace_back("second");
      served->set_alarm(Clock::now(), wrong);
      served->clear_alarm();
      served->set_alarm(Clock::now() + std::chrono::milliseconds(5), end);
    });
    serve(engine, [&](Mailbox& mailbox) {
      served = &mailbox;
      mailbox.set_alarm(Clock::now() + std::chrono::milliseconds(1), wrong);
      // In the past: at once.
      mailbox.set_alarm(Clock::now() - std::chrono::seconds(1), second);
    });
    CHECK(opened == std::vector<std::string>{"second", "end"});
  }
}

}  // namespace
}  // namespace vhdkit::async
