// A process of its own for what cannot be taken back.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>

namespace vhdkit::hypervisor {

// How a process ended.
struct Death {
  int code = -1;   // of one that exited
  int signal = 0;  // of one that was killed
};

// Runs it in a copy of this process, whose exit code is what it returns.
inline Death in_a_process(const std::function<int()>& work) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? Death{.code = -1, .signal = WTERMSIG(status)}
                             : Death{.code = WEXITSTATUS(status), .signal = 0};
}

}  // namespace vhdkit::hypervisor
