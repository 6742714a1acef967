// Where all endpoints of the process live; for those who visit every one of them (fork, exit).
#pragma once

#include "shim/endpoint.h"
#include "shim/pool.h"

namespace tssx {

extern Pool<Endpoint> endpoints;

}  // namespace tssx
