#include "tools/tssx-stat/explain.h"

#include <fmt/format.h>

#include <cstring>

#include "core/layout.h"

namespace tssx::stat_tool {
namespace {

// When a server offers (core/channel_rendezvous.cc); for the sentence only.
constexpr int kOfferAfterCalls = 8;
constexpr int kOfferAfterKibibytes = 64;

std::string with_error(const EndSnapshot& end) {
  if (end.detail == 0) return std::string(sentence_of(end.reason));
  return fmt::format("{} ({})", sentence_of(end.reason),
                     std::strerror(static_cast<int>(end.detail)));
}

// What a side that went back, or stays, says itself.
std::optional<Verdict> own_reason(const EndFacts& facts, std::string_view side) {
  if (!facts.end || facts.end->reason == Reason::none) return std::nullopt;
  return Verdict{false, std::string(to_string(facts.end->reason)), std::string(side),
                 with_error(*facts.end)};
}

std::optional<Verdict> reason_of_either(const LinkFacts& link) {
  if (auto verdict = own_reason(link.server, "server")) return verdict;
  return own_reason(link.client, "client");
}

Verdict not_yet(const EndSnapshot& server) {
  if (server.postponed != Reason::none) {
    return {false, std::string(to_string(server.postponed)), "server",
            fmt::format("not yet: at the last attempt {}", sentence_of(server.postponed))};
  }
  return {false, "not-yet", "server",
          fmt::format("not worth it yet: the server has made {} calls and sent {} bytes; it offers "
                      "after {} calls or {} KiB sent",
                      server.kernel_calls, server.kernel_bytes_sent, kOfferAfterCalls,
                      kOfferAfterKibibytes)};
}

// Both ends are known to processes with the library; there is no shared memory yet, or none left.
Verdict of_ends(const LinkFacts& link) {
  if (auto verdict = reason_of_either(link)) return *verdict;
  switch (link.server.end->stage) {
    case EndSnapshot::Stage::candidate:
      return not_yet(*link.server.end);
    case EndSnapshot::Stage::offered:
      return {false, "offered", "client", "the client has not answered the server's offer"};
    case EndSnapshot::Stage::established:
      return {false, "moving", "", "each direction moves with its next bytes"};
    default:
      return {false, "back", "", "it stays in the kernel, and nobody knows why any more"};
  }
}

// The process that holds a marked end has no record of it.
Verdict of_lost_end(const LinkFacts& link, const EndFacts& facts, std::string_view side) {
  if (auto verdict = obstacle(facts, side, link.path)) return *verdict;
  return {false, "left", std::string(side),
          "this end came to its process by exec or SCM_RIGHTS, which leaves it in the kernel"};
}

Verdict of_segment(const LinkFacts& link) {
  const Connection& connection = *link.connection;
  switch (connection.state) {
    case State::ring:
      return {true, "accelerated", "", "both directions run over shared memory"};
    case State::offered:
      // A client that refuses says nothing.
      if (auto verdict = own_reason(link.client, "client")) return *verdict;
      return {false, "offered", "client",
              "the server has offered shared memory, the client has not read that far"};
    case State::handshake:
      return {false, "moving", "", "each direction moves with its next bytes"};
    case State::closing:
      if (!connection.directions[0].gone && !connection.directions[1].gone) {
        // Nobody has closed it: an end that does not map the memory is held all the same.
        if (!link.server.end) return of_lost_end(link, link.server, "server");
        if (!link.client.end) return of_lost_end(link, link.client, "client");
      }
      return {false, "closing", "", "one of its ends is gone"};
    case State::damaged:
      return {false, "damaged", "", "what lies in the shared memory makes no sense"};
    case State::withdrawn:
    case State::mixed:
    case State::kernel:
      break;
  }
  if (auto verdict = reason_of_either(link)) return *verdict;
  for (const auto* facts : {&link.server, &link.client}) {
    if (facts->end && facts->end->asides > facts->end->returns) {
      return {false, "aside", facts == &link.server ? "server" : "client",
              "a message with ancillary data went by the kernel; the connection comes back after "
              "some calls without one"};
    }
  }
  if (!link.server.end && link.client.end) return of_lost_end(link, link.server, "server");
  if (!link.client.end && link.server.end) return of_lost_end(link, link.client, "client");
  if (connection.directions[0].stays || connection.directions[1].stays) {
    const bool server = connection.directions[outgoing(Role::server)].stays;
    return {false, "back", server ? "server" : "client",
            "it went back to the kernel for good, and the process that knows why is gone"};
  }
  // Who stepped aside has returned, and the peer has not (core/channel_rendezvous.cc: note_calm()).
  return {
      false, "moving-back", "",
      "after a message that went by the kernel one direction is in shared memory again, and the "
      "other follows after some calls"};
}

Verdict of_unmarked(const LinkFacts& link) {
  if (auto verdict = obstacle(link.client, "client", link.path)) {
    if (const auto other = obstacle(link.server, "server", link.path)) {
      verdict->text += "; " + other->text;
    }
    return *verdict;
  }
  if (link.mark == ClientMark::own_name) {
    return {false, "bound", "client", "the client's socket has a name of its own"};
  }
  return {false, "unmarked", "client",
          "the client's socket could not be marked at connect(): it was shared by dup() or fork(), "
          "had an option that needs the kernel, or its number was a FILE's"};
}

}  // namespace

std::optional<Verdict> obstacle(const EndFacts& facts, std::string_view side,
                                std::string_view path) {
  const auto no = [side](std::string_view code, std::string text) {
    return Verdict{false, std::string(code), std::string(side), std::move(text)};
  };
  if (facts.holders.empty() || !facts.program.known) {
    return no("hidden", fmt::format("the {}'s process can't be looked at", side));
  }
  if (!facts.program.library) {
    switch (facts.program.kind) {
      case ProgramKind::statically_linked:
        return no("static", fmt::format("the {}'s program is statically linked", side));
      case ProgramKind::other_architecture:
        return no("other-architecture",
                  fmt::format("the {}'s program is of another architecture", side));
      case ProgramKind::other_libc:
        return no("other-libc", fmt::format("the {}'s program uses another libc than glibc", side));
      case ProgramKind::loadable:
      case ProgramKind::unknown:
        break;
    }
    if (facts.program.secure) {
      return no("setuid", fmt::format("the {}'s program is set-user-ID or has capabilities, and "
                                      "LD_PRELOAD is ignored",
                                      side));
    }
    return no("not-preloaded", fmt::format("the {} has not loaded the library (LD_PRELOAD)", side));
  }
  if (facts.other_version || (facts.settings && facts.settings->protocol != kProtocolVersion)) {
    return no("other-version", fmt::format("the {} has another version of the library", side));
  }
  if (!facts.settings) {
    if (facts.program.secure) {
      return no("setuid", fmt::format("the {}'s program is set-user-ID or has capabilities, and "
                                      "the environment is ignored",
                                      side));
    }
    return no("no-use-tssx", fmt::format("the {} has no USE_TSSX in its environment", side));
  }
  if (!path.empty() && !lists(*facts.settings, path)) {
    return no("not-listed", fmt::format("the {}'s USE_TSSX does not list this path", side));
  }
  if (facts.filtered) {
    return no("own-filter", fmt::format("the {} restricts its own system calls by seccomp", side));
  }
  return std::nullopt;
}

Verdict explain(const LinkFacts& link) {
  if (link.path.empty() && link.mark == ClientMark::none && !link.connection) {
    return {false, "no-path", "", "no listening socket's name is known: made by socketpair()?"};
  }
  if (link.connection) return of_segment(link);
  if (link.mark == ClientMark::foreign) {
    return {false, "other-version", "client",
            "the client's socket bears the mark of another version of the library"};
  }
  if (link.mark != ClientMark::ours) return of_unmarked(link);
  if (!link.server.end) return of_lost_end(link, link.server, "server");
  if (!link.client.end) {
    // The server knows whether it noticed; what it says is closer to the truth than a guess.
    if (auto verdict = own_reason(link.server, "server")) return *verdict;
    return of_lost_end(link, link.client, "client");
  }
  return of_ends(link);
}

}  // namespace tssx::stat_tool
