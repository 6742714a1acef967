// Makes a program that differs smaller, as long as it still does, in the same kind of step.
#pragma once

#include "tests/differential/oracle.h"
#include "tests/differential/program.h"

namespace differential {

// `difference` is what `program` gave. Returns the smallest program found; `difference` is its.
Program shrink(Oracle& oracle, Program program, Difference& difference);

}  // namespace differential
