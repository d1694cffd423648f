// Signals as flags, for work that must end cleanly.
#pragma once

namespace vhdkit::tools {

// From now on SIGINT, SIGTERM and SIGHUP only set a flag, the first time: a second one ends the
// process as usual. SIGUSR1 asks for a line of progress. A write to a closed pipe fails and does
// not end the process.
void watch_signals();

// Whether whoever started the process wants the signal to be ignored, as nohup and `command &` in
// scripts do: it stays so.
bool is_ignored(int signal);

// Whether the work should stop.
bool interrupted();
// Whether somebody asked for progress since the last call.
bool take_progress_request();

// Ends the process by the signal that was caught, so that a shell sees what happened (128 + its
// number) and ends its own loop: for work that did stop. Returns where there was none.
void end_by_caught_signal();
// The same for a signal that was waited for instead of caught.
void end_by_signal(int number);

}  // namespace vhdkit::tools
