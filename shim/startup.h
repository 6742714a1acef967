// The library's beginning and end in a process.
#pragma once

namespace tssx {

// Around every fork, whoever makes it (atfork handlers, and _Fork(), which runs none).
void before_fork() noexcept;
void after_fork_in_parent(bool child_exists) noexcept;
// The parent handler ran, but there is no child.
void after_fork_failed() noexcept;
void after_fork_in_child() noexcept;

// This process is about to end without another call: its peers are told.
void give_up_connections() noexcept;

}  // namespace tssx
