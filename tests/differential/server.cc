#include "tests/differential/server.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <sstream>

#include "tests/differential/byte_pattern.h"
#include "tests/differential/generate.h"
#include "tests/differential/model.h"
#include "tests/differential/pipe_text.h"
#include "tests/differential/play.h"

namespace differential {
namespace {

class Server {
 public:
  explicit Server(std::string directory)
      : directory_(std::move(directory)), path_(directory_ + "/pairs") {
    void* memory =
        ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    board_ = new (memory) Board{};
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::snprintf(name.sun_path, sizeof name.sun_path, "%s", path_.c_str());
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&name), sizeof name) == -1 ||
        ::listen(listener_, 16) == -1) {
      std::abort();
    }
    pattern_file();
    // Orphans of a program that was ended come here, to be reaped.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    count_sigpipes();
  }

  std::string run(std::uint64_t seed, std::uint64_t first, std::uint32_t count) {
    board_->program.store(0);
    while (board_->program.load() < count) {
      const bool ended = watch(kPatience, [&] {
        Performer performer(*board_, directory_, path_, listener_);
        for (std::uint32_t i = board_->program.load(); i < count; ++i) {
          const Program program = generate(seed, first + i);
          play(program, *board_, performer, i + 1 == count);
          board_->hashes[i] = hash_of_results(*board_, program.size());
          board_->program.store(i + 1);
        }
      });
      const std::uint32_t done = board_->program.load();
      if (done >= count) break;
      board_->hashes[done] = ended ? kDied : kHung;
      board_->program.store(done + 1);
      if (ended) continue;
      for (std::uint32_t i = done + 1; i < count; ++i) board_->hashes[i] = kNotRun;
      break;
    }
    std::ostringstream answer;
    for (std::uint32_t i = 0; i < count; ++i) answer << std::hex << board_->hashes[i] << '\n';
    return answer.str();
  }

  // One line for each step, and one for what is left behind.
  std::string play_one(const Program& program, int patience) {
    board_->program.store(0);
    std::memset(board_->results, 0, sizeof board_->results);
    const bool ended = watch(patience, [&] {
      Performer performer(*board_, directory_, path_, listener_);
      play(program, *board_, performer, true);
      board_->program.store(1);
    });
    std::string text;
    for (std::size_t i = 0; i <= program.size(); ++i) {
      const Result& result = board_->results[i];
      if (!result.done) {
        text += board_->program.load() == 1 ? "not done" : ended ? "died" : "hung";
        text += '\n';
        continue;
      }
      text += "= " + std::to_string(result.value);
      if (result.error != 0) text += std::string(" ") + ::strerrorname_np(result.error);
      for (int j = 0; j < result.count; ++j) text += ' ' + std::to_string(result.extras[j]);
      text += '\n';
    }
    return text;
  }

 private:
  // Runs `body` in a process and waits for it; false if it stood still and had to be ended.
  bool watch(int patience, const std::function<void()>& body) {
    board_->next.store(0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::setpgid(0, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (const int one : {SIGINT, SIGTERM, SIGHUP}) ::signal(one, SIG_DFL);
      body();
      ::_exit(0);
    }
    ::setpgid(child, child);
    const int handle = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
    pollfd ended{handle, POLLIN, 0};
    // In looks rather than by the clock: while this process is stopped, so may be the one it
    // watches.
    constexpr int kLookMs = 20;
    int waited = 0;
    std::uint32_t program = ~0U, step = ~0U;
    bool stood_still = false;
    while (::poll(&ended, 1, kLookMs) == 0) {
      const std::uint32_t now_program = board_->program.load(), now_step = board_->next.load();
      if (now_program != program || now_step != step) {
        program = now_program;
        step = now_step;
        waited = 0;
      } else if ((waited += kLookMs) > patience) {
        stood_still = true;
        break;
      }
    }
    ::close(handle);
    // The child itself, and what it may have left: actors that waited for a turn.
    ::kill(-child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
    }
    return !stood_still;
  }

  std::string directory_;
  std::string path_;
  Board* board_;
  int listener_;
};

}  // namespace

void remove_directory(const std::string& name) {
  if (DIR* directory = ::opendir(name.c_str())) {
    while (const dirent* entry = ::readdir(directory)) {
      if (entry->d_name[0] != '.') ::unlink((name + "/" + entry->d_name).c_str());
    }
    ::closedir(directory);
  }
  ::rmdir(name.c_str());
}

namespace {

int serve_commands(const std::string& directory) {
  Server server(directory);
  PipeText pipe(STDIN_FILENO, STDOUT_FILENO);
  std::string line;
  while (pipe.read_line(line)) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "run") {
      std::uint64_t seed = 0, first = 0;
      std::uint32_t count = 0;
      words >> seed >> first >> count;
      if (count > kMaxBatch || !pipe.write(server.run(seed, first, count))) return 1;
    } else if (command == "play") {
      int patience = 0;
      std::size_t size = 0;
      std::string text;
      words >> patience >> size;
      if (!pipe.read(text, size)) return 1;
      const std::string transcript = server.play_one(parse(text), patience);
      if (!pipe.write(std::to_string(transcript.size()) + '\n' + transcript)) return 1;
    } else {
      return 1;
    }
  }
  return 0;
}

}  // namespace

int serve(const std::string& directory) {
  // An interrupt from the terminal ends the driver, and so this process: by the end of its input.
  for (const int one : {SIGINT, SIGTERM, SIGHUP}) ::signal(one, SIG_IGN);
  const int status = serve_commands(directory);
  remove_directory(directory);
  return status;
}

}  // namespace differential
