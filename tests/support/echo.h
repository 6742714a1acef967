// A conversation that passes through every stage of a connection.
#pragma once

namespace tssx_test {

// Echoes until the end of the stream.
void serve(int fd);

// The other end: many small messages, so that a cold connection moves meanwhile if it can, some
// waits, and a large one.
void expect_echo(int fd);

}  // namespace tssx_test
