// Keeps fork() apart from the moments in which an endpoint gets its segment.
//
// Whoever sets up a segment has first made sure that no other process holds the endpoint, and its
// mapping is the process's own. A fork between the two would leave a child with the connection's
// modes but without its memory. So a set-up enters the gate, and fork() closes it.
//
// Thread safety: that is what it is for. May be called from: signal handlers too; a handler that
// forks while its own thread is inside does not wait for itself.
#pragma once

namespace tssx {

// Inside for a scope, unless a fork is under way: then not now.
class SetUpScope {
 public:
  SetUpScope() noexcept;
  SetUpScope(const SetUpScope&) = delete;
  SetUpScope& operator=(const SetUpScope&) = delete;
  ~SetUpScope();
  bool entered() const noexcept { return entered_; }

 private:
  bool entered_;
};

// Before fork(): returns when no other thread is inside, and none will enter.
void close_fork_gate() noexcept;
// After it, in the parent; in_child: the other threads are gone, and with them what they did.
void open_fork_gate(bool in_child) noexcept;

}  // namespace tssx
