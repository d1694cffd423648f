#include "tools/top.h"

#include <limits>
#include <thread>

#include "tools/console.h"
#include "tools/screen.h"
#include "tools/signals.h"
#include "tools/text.h"
#include "tools/top_text.h"

namespace vhdkit::tools {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_now() {
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

Result<Json> result_of(ControlClient& client, const char* command) {
  TRY_LET(ControlAnswer answer, client.ask(command, Json::object()));
  if (answer.error_kind.empty()) return std::move(answer.result);
  return fail(Errc::busy, printable(answer.error_message));
}

Result<Look> look_at(ControlClient& client) {
  Look look{.seconds = 0, .status = nullptr, .counters = nullptr};
  TRY_LET(look.status, result_of(client, "status"));
  TRY_LET(look.counters, result_of(client, "counters"));
  look.seconds = seconds_now();
  return look;
}

Clock::time_point next_look(const TopOptions& options) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(options.interval);
}

Result<void> print_blocks(ControlClient& client, const TopOptions& options) {
  TRY_LET(Look before, look_at(client));
  for (uint64_t done = 0; !options.count || done < *options.count; ++done) {
    std::this_thread::sleep_until(next_look(options));
    TRY_LET(Look now, look_at(client));
    if (done > 0) print("\n");
    print(top_text(&before, now, std::numeric_limits<size_t>::max()));
    TRY(finish_printing());
    before = std::move(now);
  }
  return {};
}

// The two latest looks, on the screen.
class Page {
 public:
  Page(Screen& screen, ControlClient& client) : screen_(screen), client_(client) {}

  Result<void> look() {
    TRY_LET(Look now, look_at(client_));
    before_ = std::exchange(now_, std::move(now));
    return draw();
  }
  Result<void> draw() {
    return screen_.draw(top_text(before_ ? &*before_ : nullptr, *now_, screen_.size().columns));
  }
  // Errors: interrupted: somebody left.
  Result<void> wait_until(Screen::Time time) {
    for (;;) {
      const Screen::Event event = screen_.wait(-1, time);
      if (event == Screen::Event::time) return {};
      if (event == Screen::Event::left) return fail(Errc::interrupted, "left");
      TRY(draw());
    }
  }

 private:
  Screen& screen_;
  ControlClient& client_;
  std::optional<Look> before_;
  std::optional<Look> now_;
};

Result<void> wait_for_answer(Screen& screen, int socket) {
  for (;;) {
    const Screen::Event event = screen.wait(socket, std::nullopt);
    if (event == Screen::Event::readable) return {};
    if (event == Screen::Event::left) return fail(Errc::interrupted, "left");
  }
}

Result<void> show_page(Screen& screen, ControlClient& client, const TopOptions& options) {
  client.set_wait([&screen](int socket) { return wait_for_answer(screen, socket); });
  Page page(screen, client);
  TRY(page.look());
  for (uint64_t done = 0; !options.count || done < *options.count; ++done) {
    TRY(page.wait_until(next_look(options)));
    TRY(page.look());
  }
  return {};
}

Result<void> show(ControlClient& client, const TopOptions& options) {
  if (!Screen::is_there()) return print_blocks(client, options);
  Result<void> shown;
  int signal = 0;
  {
    TRY_LET(const auto screen, Screen::open());
    shown = show_page(*screen, client, options);
    client.set_wait(nullptr);
    signal = screen->caught_signal();
  }
  if (signal != 0) end_by_signal(signal);
  if (!shown && shown.error().code == Errc::interrupted) return {};
  return shown;
}

}  // namespace

Result<int> run_top(ControlClient& client, const TopOptions& options) {
  auto shown = show(client, options);
  if (shown) return 0;
  if (shown.error().code != Errc::busy) return std::unexpected(shown.error());
  complain(shown.error().message);
  return 1;
}

}  // namespace vhdkit::tools
