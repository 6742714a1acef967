// What is not compared with the kernel, and why: the one list of it. The model (model.h) refuses
// the steps that would meet one of these, so that neither the generator makes nor the shrinker
// arrives at a program whose result is known to differ. When a limitation is lifted, its line goes,
// and the compiler shows the rules that go with it.
#pragma once

namespace differential {

struct Exclusion {
  const char* what;        // as the model tells it
  const char* limitation;  // the paragraph of docs/limitations.md, or why none is needed
};

// How much a direction takes before it is full. Writes stay within what both take; those that do
// not (push, fill) report only that they took something, and the reader checks every byte of it.
inline constexpr Exclusion kCapacity{"how much a full direction holds", "SO_SNDBUF is a minimum"};

// Readiness for writing is asked for only where both rules agree.
inline constexpr Exclusion kWritable{"when a direction that is not empty is writable", "Writable"};

inline constexpr Exclusion kOutQueue{"SIOCOUTQ of unread bytes", "SIOCOUTQ"};

// The kernel fills a pipe by messages, sixteen of them.
inline constexpr Exclusion kSpliceSize{"splice() of more than its piece",
                                       "sendfile() and splice()"};

inline constexpr Exclusion kNestedSets{"epoll sets inside poll() or another set", "Nested sets"};

inline constexpr Exclusion kSharedSets{"epoll sets used by two processes",
                                       "Sets shared by processes"};

inline constexpr Exclusion kClosedMembers{"a member closed here and open elsewhere",
                                          "Closed members"};

inline constexpr Exclusion kPeekOffset{"SO_PEEK_OFF with bytes unread", "SO_PEEK_OFF on the ring"};

// A reader that waits while the bytes come may see a part of a large write; both are right.
inline constexpr Exclusion kLargeWriteInPieces{
    "which part of a large write a waiting reader gets",
    "no difference of ours: the kernel cuts large writes into buffers, at sizes of its own"};

// Close with something unread, while the connection moves to the ring or back.
inline constexpr Exclusion kResetWhileMoving{"reset or end, while the connection moves",
                                             "Reset or end, while moving"};

// A peek can't look behind a message of ours that has data before it.
inline constexpr Exclusion kPeekWhileMoving{"MSG_PEEK beyond a message, while the connection moves",
                                            "MSG_PEEK, while moving"};

// An offer behind unread data is one byte too many.
inline constexpr Exclusion kCountWhileMoving{"FIONREAD, while the connection moves",
                                             "FIONREAD, while moving"};

// Bytes that went through the ring have no credentials; MSG_CTRUNC tells.
inline constexpr Exclusion kLateCredentials{"SO_PASSCRED set after the connection may have moved",
                                            "Credentials asked for late"};

// A registration in the kernel's set is made again when a connection moves. And writing: in the
// ring every read is an edge, in the kernel one that finishes a message.
inline constexpr Exclusion kEdge{"edges, while the connection moves, and those for writing",
                                 "Spurious edges"};

// Only the kernel could give the new holder an error, and it knows nothing of the bytes.
inline constexpr Exclusion kPassedReset{"a passed endpoint whose peer has closed",
                                        "A reset and a passed connection"};

inline constexpr Exclusion kMark{"the sender's name at a passed endpoint", "The mark is visible"};

// Applied by the step that waits for a child: it gives that time to pass.
inline constexpr Exclusion kDeathAtOnce{"the first moments after a peer's death",
                                        "A peer that was killed"};

// poll() of one endpoint by two entries, one of which finds that it has moved.
inline constexpr Exclusion kTwiceInPoll{"an endpoint twice in one poll(), while it moves",
                                        "An endpoint twice in one poll()"};

inline constexpr Exclusion kUrgentReadiness{
    "readiness of an urgent byte, a receive of no bytes at one, and a close after one",
    "Urgent bytes"};

// The kernel's own receive ends at a message with descriptors; ours goes on where threads share
// the endpoint.
inline constexpr Exclusion kWaitAllAtDescriptor{"MSG_WAITALL across a message with a descriptor",
                                                "MSG_WAITALL and descriptors"};

// What a call that received less than its buffer left in the rest of it.
inline constexpr Exclusion kByteBehind{"the buffer behind what was received",
                                       "The rest of a buffer"};

// A passed endpoint gets what the ring still held for it with the sender's next call.
inline constexpr Exclusion kPassedUnread{"a passed endpoint with bytes unread",
                                         "Bytes unread at a passed end"};

// unix_gc() runs at some later time.
inline constexpr Exclusion kCycles{
    "connections that carry each other",
    "no difference of ours: the kernel collects them some time later"};

}  // namespace differential
