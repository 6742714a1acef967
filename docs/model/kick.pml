/*
 * Threads that sleep in one epoll set whose member runs in the ring, for spin (spinroot.com).
 *
 * Two threads wait in the set (level-triggered, EPOLLIN) and read a byte when told to. One of them
 * may go away after any read. A third reads whenever it likes, and takes bells off the socket in
 * doing so. The peer writes. That no bell is lost between peer and sleeper is wakeup.pml's; here a
 * read of the ring, or an arming with its second look, is a step. README.md in this folder.
 *
 * What is broken (at most one of): NO_POKE, POKE_WITHOUT_FENCE, COUNTED_LATE, NO_LAST_LOOK,
 *   NO_CALL_ON_LEAVING
 */

#ifndef BYTES
#define BYTES 3
#endif

/* The ring, and the socket below it. */
byte head, tail;
bit data_wait; /* kWaiting */
byte bells;    /* unread on the socket */

/* The kernel's set: registrations of the socket and of the kick, both EPOLLET. */
bit socket_edge, kick_edge;

/* EpollSet (shim/epoll_set.h) */
bit locked;    /* lock_ */
bit hot = 1;   /* the member is on the list that every epoll_wait looks at, as when added */
bit poked;     /* poked_ */
byte sleepers; /* sleepers_ */

byte taken; /* bytes read, by whom ever */

#define LOCK atomic { !locked -> locked = 1 }
#define UNLOCK locked = 0

/* Channel::publish_head() and ring_for_data(); each bell is an edge. */
active proctype peer() {
  byte count;
  do
  :: count < BYTES ->
    head++;
    count++;
    if
    :: data_wait ->
      data_wait = 0;
      atomic { bells++; socket_edge = 1 }
    :: !data_wait
    fi
  :: count == BYTES -> break
  od
}

/* EpollSet::nudge() */
inline nudge() {
  kick_edge = 1
}

/* poke() of shim/epoll_endpoint.cc: leaves word first, and looks for sleepers second. */
inline poke() {
#ifdef POKE_WITHOUT_FENCE
  somebody = sleepers != 0; /* the load has overtaken the store */
  poked = 1;
#else
  poked = 1;
  somebody = sleepers != 0;
#endif
  if
  :: somebody -> nudge()
  :: else
  fi;
  somebody = 0
}

/*
 * Channel::look_at_socket() in a read that finds nothing, and Channel::absorb(), which says so to
 * the sets: look_again() of shim/epoll_endpoint.cc.
 */
inline take_bells() {
  if
  :: atomic { bells != 0 -> bells = 0 };
#ifdef NO_POKE
    skip
#else
    poke()
#endif
  :: bells == 0
  fi
}

/* read(2) with O_NONBLOCK */
inline read_byte() {
  if
  :: atomic { head != tail -> tail++; taken++ }
  :: head == tail -> take_bells()
  fi
}

/* EpollSet::arm_all(), locked: announce(), a second look, make_cold(). */
inline arm_all(armed) {
  if
  :: hot ->
    data_wait = 1;
    if
    :: atomic { head != tail -> armed = 0 }
    :: atomic { head == tail -> hot = 0; armed = 1 }
    fi
  :: !hot -> armed = 1
  fi
}

/* EpollSet::leave(): who goes away with events arms what is hot for those who sleep. */
inline leave() {
#ifndef NO_CALL_ON_LEAVING
  if
  :: sleepers != 0 ->
    LOCK;
    arm_all(armed);
    if
    :: !armed -> nudge() /* kick() */
    :: armed
    fi;
    armed = 0;
    UNLOCK
  :: sleepers == 0
  fi
#else
  skip
#endif
}

/* EpollSet::take_poked(), locked. */
inline take_poked() {
  atomic {
    if
    :: poked -> poked = 0; hot = 1
    :: else
    fi
  }
}

/* EpollSet::wait(), without its active wait. */
inline epoll_wait() {
  do
  :: if
    :: poked -> LOCK; take_poked(); UNLOCK
    :: !poked
    fi;
    if
    :: hot -> /* harvest(): a member that is ready stays hot */
      LOCK;
      atomic { told = hot && head != tail };
      UNLOCK
    :: !hot
    fi;
    if
    :: told -> leave(); told = 0; break
    :: else
    fi;
    LOCK;
    take_poked();
    arm_all(armed);
    UNLOCK;
    if
    :: atomic { armed -> armed = 0 };
      /* SetStay: counted first, and then a last look. */
#ifndef COUNTED_LATE
      sleepers++;
#endif
      if
#ifdef NO_LAST_LOOK
      :: false
#else
      :: hot || poked
#endif
      :: else ->
#ifdef COUNTED_LATE
        sleepers++;
#endif
        /* sleep_in(): the kernel asks the socket once more, and drops an edge of bells taken since. */
end:    do
        :: atomic { socket_edge && bells == 0 -> socket_edge = 0 }
        :: atomic { socket_edge && bells != 0 -> socket_edge = 0; rung = 1; break }
        :: atomic { kick_edge -> kick_edge = 0; break }
        od
      fi;
#ifdef COUNTED_LATE
      atomic { if :: sleepers != 0 -> sleepers-- :: else fi };
#else
      sleepers--;
#endif
      if
      :: rung -> LOCK; hot = 1; UNLOCK; rung = 0 /* collect(), take_tag() */
      :: else
      fi
    :: !armed
    fi
  od
}

/* One of the two may have other things to do after a read. */
active [2] proctype waiter() {
  bit told, armed, rung, somebody;
  do
  :: epoll_wait();
    read_byte();
    if
    :: _pid == 1 -> break
    :: true
    fi
  od
}

/* read(2) of another thread, whenever it likes. */
active proctype reader() {
  bit somebody;
  if
  :: read_byte()
  :: take_bells()
  fi
}

/* When nothing more happens, everything was written and everything was read. */
active proctype proof() {
  timeout;
  assert(head == BYTES && taken == head)
}
