/*
 * The wake-up protocol of one connection that runs in the ring, for spin (spinroot.com).
 *
 * Two sides, A (0) and B (1). Side s produces into direction s and consumes from direction 1 - s.
 * Every step that other processes can see is one statement here; the function it stands for is
 * named beside it. What is proved, what is left out, and how to run it: README.md in this folder.
 *
 * Who is there (one of):
 *   ONE_READER         A writes, B reads; each alone, so locks are plain stores and sleeps take bells
 *   TWO_READERS        A writes, two threads of B read
 *   TWO_WRITERS        two threads of A write, B reads
 *   READER_AND_WRITER  A writes, then reads; of two threads of B one reads and one writes
 * Who may be killed, at any step (at most one of):
 *   KILL_WRITER_SIDE   A, with its only process       KILL_READER_SIDE  B, with its only process
 *   KILL_ONE           one of two, which are processes of a fork family then: the other goes on
 * What is broken (at most one of): NO_HEAD_FENCE, NO_ARM_FENCE, NO_TAIL_FENCE, NO_LOOK_FOR_DATA,
 *   NO_LOOK_FOR_SPACE, SLEEPER_TAKES_BELL, DRAIN_TAKES_BELL, BIT_TAKEN_BACK, NEVER_DRAINED
 *   NO_RECOVERY
 * LIMITED   sleeps beside siblings end after a while, which is not in the code: README.md
 *
 * Memory is that of x86: a plain store waits in its processor's buffer for as long as it likes, and
 * later loads overtake it. Locked instructions (exchange, fetch_or, compare and swap) come after
 * all earlier stores.
 */

#ifndef CAPACITY
#define CAPACITY 4
#endif
#ifndef BYTES
#define BYTES 6
#endif
#ifndef BYTES_BACK
#define BYTES_BACK BYTES
#endif
/* kOldBells is 32 in the code, and a socket takes 278 messages of one byte. */
#define OLD_BELLS 2
#define QUEUE 6

#if defined(KILL_WRITER_SIDE) || defined(KILL_READER_SIDE) || defined(KILL_ONE)
#define KILLS
#endif
#ifndef INTERRUPTS
#define INTERRUPTS 1 /* sleeps that end by themselves: signals and time limits */
#endif

#define A 0
#define B 1

/* Channel::is_exclusive(): nobody else uses this end. */
#ifdef ONE_READER
#define EXCLUSIVE(s) true
#define PEOPLE 2
#define ON_A 1
#define ON_B 1
#endif
#if defined(TWO_READERS) || defined(READER_AND_WRITER)
#define EXCLUSIVE(s) (s == A)
#define PEOPLE 3
#define ON_A 1
#define ON_B 2
#endif
#ifdef TWO_WRITERS
#define EXCLUSIVE(s) (s == B)
#define PEOPLE 3
#define ON_A 2
#define ON_B 1
#endif

/* Who takes over a lock finishes what its owner had begun. */
#if defined(KILL_ONE) && !defined(NO_RECOVERY)
#define RECOVERY
#endif

/* One of two may have enough at any time, after a read or when his sleep is interrupted. */
#if defined(TWO_READERS) || defined(TWO_WRITERS)
#define MAY_LEAVE(me) (me == 1)
#else
#define MAY_LEAVE(me) false
#endif

/* Threads share what the Channel of their process remembers; siblings have a Channel each. */
#ifdef KILL_ONE
#define MINE(me, s) me
#else
#define MINE(me, s) s
#endif

/* --- what there is ------------------------------------------------------------------------- */

/* The segment, by direction (core/layout.h). */
byte head[2];       /* ProducerLine::head */
byte tail[2];       /* ConsumerLine::tail */
bit data_wait[2];   /* kWaiting of Direction::data_wait: the consumer sleeps */
bit space_wait[2];  /* kWaiting of Direction::space_wait: the producer sleeps */
bit fin[2];         /* kFin */
bit gone[2];        /* kGone: a hint that nobody sets who is killed */
byte ring[8];       /* two rings of CAPACITY, here at most 4 */

/* The Side, by side (core/side.h). */
byte claimed[2];    /* receiving.tail */
byte fenced[2];     /* receiving.fenced_tail */
byte written[2];    /* sending.head */
byte receiving_lock[2], sending_lock[2]; /* RobustLock: 0, or 1 + who */
byte sleepers[2];   /* state.sleepers */
bit hung_up[2];     /* state.hung_up */

/* The Channel (core/channel.h). */
byte owed[PEOPLE];     /* bells_owed_ */
byte given_up[PEOPLE]; /* given_up_ */

/* The kernel. */
byte bells[2];      /* bytes unread on the socket of side s */
bit hup[2];         /* its peer's end is closed */
byte living[2];     /* holders of the end */

/* Store buffers. */
mtype = { HEAD, TAIL, DATA_WAIT, SPACE_WAIT };
chan buffer[PEOPLE] = [2] of { mtype, byte, byte };
#define DRAINED(me) (len(buffer[me]) == 0)

/* What the proof counts. */
byte taken[2];      /* bytes that came out of direction d, in order */
bit killed[PEOPLE], dead[PEOPLE];
byte at_end;        /* who has finished */
bit abandoned[2];   /* RobustLock::abandoned_, of either lock of the side */
byte interrupts;
#ifdef LIMITED
byte second_looks[PEOPLE]; /* sleeps beside siblings end after a while: so often */
#endif

mtype = { DONE, WOULD_BLOCK, ENDED, LEFT, CLEARED, ARMED, AGAIN };

/* A store leaves its buffer some time later; of each buffer in order. */
active proctype memory() {
  byte d, value;
end:
  do
  :: atomic { buffer[0]?HEAD, d, value -> head[d] = value }
  :: atomic { buffer[0]?TAIL, d, value -> tail[d] = value }
  :: atomic { buffer[0]?DATA_WAIT, d, value -> data_wait[d] = 1 }
  :: atomic { buffer[0]?SPACE_WAIT, d, value -> space_wait[d] = 1 }
  :: atomic { buffer[1]?HEAD, d, value -> head[d] = value }
  :: atomic { buffer[1]?TAIL, d, value -> tail[d] = value }
  :: atomic { buffer[1]?DATA_WAIT, d, value -> data_wait[d] = 1 }
  :: atomic { buffer[1]?SPACE_WAIT, d, value -> space_wait[d] = 1 }
#if PEOPLE == 3
  :: atomic { buffer[2]?HEAD, d, value -> head[d] = value }
  :: atomic { buffer[2]?TAIL, d, value -> tail[d] = value }
  :: atomic { buffer[2]?DATA_WAIT, d, value -> data_wait[d] = 1 }
  :: atomic { buffer[2]?SPACE_WAIT, d, value -> space_wait[d] = 1 }
#endif
  od
}

/*
 * Inlines below are the steps themselves, or sequences of them. A step is an atomic: one access to
 * what others see, with what its own process makes of it.
 */

/* --- core/robust_lock.h ---------------------------------------------------------------------- */

/*
 * RobustLock::acquire(): compare and swap; from a dead owner after a while (acquire_slowly()). An
 * exclusive owner's stores are plain, and nobody is kept out.
 * RobustLock::release(): a plain store; but whoever has the lock next sees all earlier stores, and
 * its last owner's next step that matters is a locked one. So it may come after them here.
 */
#define FREE(lock) (lock == 0 || (dead[(lock) - 1] && DRAINED((lock) - 1)))
#define CAN_ACQUIRE(me, s, lock) (EXCLUSIVE(s) || (DRAINED(me) && FREE(lock)))
#define CAN_RELEASE(me, s) (EXCLUSIVE(s) || DRAINED(me))
inline acquire(me, s, lock) {
  if
  :: EXCLUSIVE(s)
#ifdef KILL_ONE
  :: !EXCLUSIVE(s) && lock != 0 -> lock = me + 1; abandoned[s] = 1
  :: !EXCLUSIVE(s) && lock == 0 -> lock = me + 1
#else
  :: else -> lock = me + 1
#endif
  fi
}
inline release(me, s, lock) {
  if
  :: EXCLUSIVE(s)
  :: else -> lock = 0
  fi
}

/* --- core/bell.cc ------------------------------------------------------------------------------ */

/* send_bell(): a queue that is full would swallow it. Nobody hears one at a closed end. */
inline send_bell(s) {
  atomic {
    if
    :: hup[s]
    :: else ->
      assert(bells[1 - s] < QUEUE);
      bells[1 - s]++
    fi;
    rung = 0
  }
}

/* --- core/channel_wait.cc ---------------------------------------------------------------------- */

/* Channel::ring_for_data(), of the producer of direction s. */
inline ring_for_data(me, s) {
  atomic { DRAINED(me) -> rung = data_wait[s]; data_wait[s] = 0 };
  if
  :: rung -> send_bell(s)
  :: else
  fi
}

/* Channel::ring_for_space(), of the consumer of direction d. */
inline ring_for_space(me, s, d) {
  atomic { DRAINED(me) -> rung = space_wait[d]; space_wait[d] = 0 };
  if
  :: atomic { rung && CAN_ACQUIRE(me, s, sending_lock[s]) -> acquire(me, s, sending_lock[s]) };
    send_bell(s);
    atomic { CAN_RELEASE(me, s) -> release(me, s, sending_lock[s]) }
  :: !rung
  fi
}

/* Channel::has_sleepers(): counted, and not given up. */
#define SLEEPERS(me, s) (sleepers[s] > given_up[MINE(me, s)])
inline forget_given_up(me, s) {
  if
  :: sleepers[s] < given_up[MINE(me, s)] -> given_up[MINE(me, s)] = sleepers[s]
  :: else
  fi
}

/*
 * Channel::look_at_socket(): takes the bells off, unless they are left for who sleeps there. The
 * question for sleepers and the recvmsg(2) are two steps; a peek that found nobody asleep any more
 * is followed by a receive.
 */
inline look_at_socket(me, s, outcome) {
  atomic {
    forget_given_up(me, s);
    owed[MINE(me, s)] = 0;
    only_look = SLEEPERS(me, s)
#ifdef DRAIN_TAKES_BELL
    ; only_look = 0
#endif
  };
  atomic {
    outcome = CLEARED;
    if
    :: bells[s] != 0 && only_look ->
      forget_given_up(me, s);
      if
      :: SLEEPERS(me, s) -> outcome = LEFT /* leaves_to_sleepers() */
      :: else -> bells[s] = 0
      fi
    :: bells[s] != 0 && !only_look -> bells[s] = 0 /* absorb(): got < sizeof bells */
    :: bells[s] == 0 && hup[s] -> hung_up[s] = 1   /* absorb() of an end of file */
    :: else
    fi;
    only_look = 0
  }
}

/* Channel::announce() */
#ifdef NO_ARM_FENCE
inline announce(whose, end, word, sort, what) {
  if
  :: !hung_up[end] && word == 0 -> buffer[whose]!sort, what, 1; owed[MINE(whose, end)]++
  :: else
  fi
}
#define CAN_ANNOUNCE(me) len(buffer[me]) < 2
#else
inline announce(whose, end, word, sort, what) {
  if
  :: !hung_up[end] && word == 0 -> word = 1; owed[MINE(whose, end)]++
  :: else
  fi
}
#define CAN_ANNOUNCE(me) DRAINED(me)
#endif

/* Channel::may_send() */
#define MAY_SEND(s) (written[s] - tail[s] <= CAPACITY / 2)

#ifdef NO_LOOK_FOR_DATA
#define LOOK_FOR_DATA(s, d) hung_up[s]
#else
#define LOOK_FOR_DATA(s, d) (hung_up[s] || head[d] != claimed[s] || fin[d])
#endif
#ifdef NO_LOOK_FOR_SPACE
#define LOOK_FOR_SPACE(s) hung_up[s]
#else
#define LOOK_FOR_SPACE(s) (hung_up[s] || MAY_SEND(s))
#endif

/*
 * Channel::arm_data(), Channel::arm_space(): the receiving lock, announce(), the second look,
 * count_sleeper(). Both take the receiving lock, so that nobody drains the bell meanwhile.
 */
inline arm(who, side, word, kind, way, second_look, outcome) {
  atomic {
    CAN_ACQUIRE(who, side, receiving_lock[side]) && CAN_ANNOUNCE(who) ->
    acquire(who, side, receiving_lock[side]);
    announce(who, side, word, kind, way)
  };
  atomic {
    if
    :: second_look -> outcome = AGAIN
    :: else -> outcome = ARMED
    fi
  };
  atomic {
#ifndef NO_ARM_FENCE
    CAN_RELEASE(who, side) ->
#endif
    if
    :: outcome == ARMED -> sleepers[side]++ /* count_sleeper() */
    :: else
    fi;
    release(who, side, receiving_lock[side])
  }
}

/* --- shim/stream_sleep.cc ---------------------------------------------------------------------- */

/*
 * clear_bells(). A nap ends when another look would say something else; who was killed in his sleep
 * is waited for until half a second is over, when whatever can happen has (kSleeperNs).
 */
inline clear_bells(me, s) {
  do
  :: EXCLUSIVE(s) -> break
  :: atomic {
      !EXCLUSIVE(s) && CAN_ACQUIRE(me, s, receiving_lock[s]) -> acquire(me, s, receiving_lock[s])
    };
    look_at_socket(me, s, found);
    atomic { CAN_RELEASE(me, s) -> release(me, s, receiving_lock[s]) };
    if
    :: atomic { found == CLEARED -> found = 0; break }
    :: atomic { found == LEFT && (bells[s] == 0 || !SLEEPERS(me, s)) -> found = 0 }
    :: atomic { timeout -> given_up[MINE(me, s)] = sleepers[s]; found = 0 }
    fi
  od
}

/*
 * sleep_on_socket(): a recv(2) that takes the bells if nobody else is there, and otherwise leaves
 * them (MSG_PEEK). Then Sleep::~Sleep(), which is Channel::woken().
 */
#ifdef SLEEPER_TAKES_BELL
#define TAKES_BELLS(s) true
#else
#define TAKES_BELLS(s) EXCLUSIVE(s)
#endif
inline sleep_on_socket(me, s, word) {
  if
  :: atomic {
      bells[s] != 0 ->
      if
      :: TAKES_BELLS(s) -> bells[s] = 0
      :: else
      fi
    }
  :: atomic { bells[s] == 0 && hup[s] -> hung_up[s] = 1 } /* absorb(), or poll_hang_up() */
  :: atomic {
      interrupts < INTERRUPTS -> interrupts++;
#ifdef BIT_TAKEN_BACK
      word = 0;
#endif
      if
      :: result = AGAIN
      :: MAY_LEAVE(me) -> result = LEFT /* EINTR, EAGAIN */
      fi
    }
#ifdef LIMITED
  :: atomic { timeout && second_looks[me] < 3 -> second_looks[me]++; result = AGAIN }
#endif
  fi;
  atomic { DRAINED(me) -> sleepers[s]-- }
}

/* --- core/channel_ring.cc ---------------------------------------------------------------------- */

/* Channel::publish_tail(): the fence is saved while at most half of the ring was in use. */
#ifdef NO_TAIL_FENCE
#define NEEDS_FENCE(s, seen_head) false
#else
#define NEEDS_FENCE(s, seen_head) (seen_head - fenced[s] > CAPACITY / 2)
#endif
inline publish_tail(me, s, d, to, seen_head) {
  if
  :: atomic {
      !NEEDS_FENCE(s, seen_head) && len(buffer[me]) < 2 -> buffer[me]!TAIL, d, to;
      looks = seen_head - fenced[s] > CAPACITY / 2 && seen_head - to <= CAPACITY / 2;
#ifdef NO_TAIL_FENCE
      fenced[s] = (seen_head - fenced[s] > CAPACITY / 2 -> to : fenced[s])
#endif
    }
  :: atomic {
      NEEDS_FENCE(s, seen_head) && DRAINED(me) -> tail[d] = to; fenced[s] = to;
      looks = seen_head - to <= CAPACITY / 2
    }
  fi;
  if
  :: atomic { looks && space_wait[d] -> looks = 0 }; ring_for_space(me, s, d)
  :: atomic { !looks || !space_wait[d] -> looks = 0 }
  fi
}

/* Takes the bytes from `start` to `position`: the claim, and scatter_from_ring(). */
inline take(s, d) {
  claimed[s] = position;
  do
  :: start != position ->
    assert(ring[(d) * 4 + start % CAPACITY] == start);
    assert(taken[d] == start); /* each byte once, in order */
    taken[d]++;
    start++
  :: else -> break
  od
}

/*
 * Channel::receive() of direction d. One read takes a byte, or all there are. `hints` is what makes
 * Channel::at_end_of_ring() look at the socket: kGone, old bells, or that the time has come
 * (due_for_hang_up_check()), which matters only when the peer is gone.
 */
#ifdef NEVER_DRAINED
#define HINTS(me, s, d) (gone[d])
#else
#define HINTS(me, s, d) (gone[d] || owed[MINE(me, s)] >= OLD_BELLS)
#endif
#ifdef KILL_ONE
#define IS_UNPUBLISHED(me, d) (DRAINED(me) && tail[d] != claimed[1 - (d)])
#else
#define IS_UNPUBLISHED(me, d) false
#endif
inline receive(me, s, d, outcome) {
  atomic { CAN_ACQUIRE(me, s, receiving_lock[s]) -> acquire(me, s, receiving_lock[s]) };
#ifdef RECOVERY
  if
  :: atomic {
      abandoned[s] && DRAINED(me) -> /* finish_abandoned_receiving() */
      abandoned[s] = 0; tail[d] = claimed[s]; fenced[s] = tail[d]; space_wait[d] = 0
    };
    send_bell(s)
  :: !abandoned[s]
  fi;
#endif
  do
  :: atomic { /* readable_bytes() */
      head[d] != claimed[s] ->
      start = claimed[s];
      seen = head[d];
      assert(seen - start <= CAPACITY);
      if
      :: position = start + 1
      :: seen != start + 1 -> position = seen
      fi;
      take(s, d);
      start = 0
    };
    publish_tail(me, s, d, position, seen);
    atomic { outcome = DONE; position = 0; seen = 0; break }
  :: atomic { head[d] == claimed[s] && IS_UNPUBLISHED(me, d) -> position = claimed[s] };
    publish_tail(me, s, d, position, position)
  :: atomic { /* at_end_of_ring(): would_block, or the end by kFin or hung_up */
      head[d] == claimed[s] && !IS_UNPUBLISHED(me, d) && (fin[d] || hung_up[s]) ->
      outcome = ENDED; break
    }
  :: atomic {
      head[d] == claimed[s] && !IS_UNPUBLISHED(me, d) && !(fin[d] || hung_up[s]) &&
      !HINTS(me, s, d) ->
      outcome = WOULD_BLOCK; break
    }
  :: atomic {
      head[d] == claimed[s] && !IS_UNPUBLISHED(me, d) && !(fin[d] || hung_up[s]) &&
      (HINTS(me, s, d) || hup[s]) -> skip
    };
    look_at_socket(me, s, found);
    atomic {
      found = 0;
      if
      :: hup[s] -> hung_up[s] = 1 /* poll_hang_up(): look again, data come first */
      :: !hup[s] && head[d] == claimed[s] -> outcome = WOULD_BLOCK; break
      :: else
      fi
    }
  od;
  atomic { CAN_RELEASE(me, s) -> release(me, s, receiving_lock[s]) }
}

/* Channel::publish_head() */
inline publish_head(me, s) {
#ifdef NO_HEAD_FENCE
  atomic { len(buffer[me]) < 2 -> buffer[me]!HEAD, s, written[s] };
#else
  atomic { DRAINED(me) -> head[s] = written[s] };
#endif
  if
  :: data_wait[s] -> ring_for_data(me, s)
  :: !data_wait[s]
  fi
}

/* Channel::finish_abandoned_sending() */
inline finish_abandoned_sending(me, s) {
#ifdef RECOVERY
  if
  :: atomic {
      abandoned[s] && DRAINED(me) ->
      abandoned[s] = 0; head[s] = written[s]; data_wait[s] = 0
    };
    send_bell(s)
  :: !abandoned[s]
  fi
#else
  skip
#endif
}

/* Channel::send() of one byte. `seen` is seen_tail_. */
inline send(me, s, outcome) {
  atomic { CAN_ACQUIRE(me, s, sending_lock[s]) -> acquire(me, s, sending_lock[s]) };
  finish_abandoned_sending(me, s);
  atomic {
    if
    :: written[s] - seen < CAPACITY
    :: else -> seen = tail[s]
    fi;
    if
    :: hung_up[s] -> outcome = ENDED
    :: !hung_up[s] && hup[s] -> hung_up[s] = 1; outcome = ENDED /* due_for_hang_up_check() */
    :: !hung_up[s] && written[s] - seen >= CAPACITY -> outcome = WOULD_BLOCK
    :: !hung_up[s] && written[s] - seen < CAPACITY ->
      ring[s * 4 + written[s] % CAPACITY] = written[s]; /* gather_into_ring() */
      written[s]++;
      outcome = DONE
    fi
  };
  if
  :: outcome == DONE -> publish_head(me, s)
  :: else
  fi;
  atomic { CAN_RELEASE(me, s) -> release(me, s, sending_lock[s]) }
}

/* --- who is there ------------------------------------------------------------------------------ */

/* receive_stream() and wait_for_data() of shim/stream_io.cc, until the end of the stream. */
inline read_all(me, s, d) {
  do
  :: receive(me, s, d, result);
    if
    :: atomic { result == DONE -> result = 0 }
    :: atomic { (result == DONE && MAY_LEAVE(me)) || result == ENDED -> result = 0; break }
    :: atomic { result == WOULD_BLOCK -> result = 0 };
      clear_bells(me, s);
      arm(me, s, data_wait[d], DATA_WAIT, d, LOOK_FOR_DATA(s, d), result);
      if
      :: result == ARMED -> sleep_on_socket(me, s, data_wait[d])
      :: result == AGAIN
      fi;
      if
      :: atomic { result == LEFT -> result = 0; break }
      :: atomic { result != LEFT -> result = 0 }
      fi
    fi
  od
}

/* send_stream() and wait_for_space(), which here sleeps without its time limit of 100 ms. */
inline write_all(me, s, total) {
  do
  :: atomic { count == total -> count = 0; seen = 0; break }
  :: count != total ->
    send(me, s, result);
    if
    :: atomic { result == DONE -> count++; result = 0 }
    :: atomic { result == ENDED -> count = total; result = 0 }
    :: atomic { result == WOULD_BLOCK -> result = 0 };
      clear_bells(me, s);
      arm(me, s, space_wait[s], SPACE_WAIT, s, LOOK_FOR_SPACE(s), result);
      if
      :: result == ARMED -> sleep_on_socket(me, s, space_wait[s])
      :: result == AGAIN
      fi;
      if
      :: atomic { result == LEFT -> count = total; result = 0 }
      :: atomic { result != LEFT -> result = 0 }
      fi
    fi
  od
}

/* Channel::shutdown() for writing */
inline shut_down(me, s) {
  atomic { CAN_ACQUIRE(me, s, sending_lock[s]) -> acquire(me, s, sending_lock[s]) };
  finish_abandoned_sending(me, s);
  atomic { DRAINED(me) -> fin[s] = 1 };
  if
  :: data_wait[s] -> ring_for_data(me, s)
  :: !data_wait[s]
  fi;
  atomic { CAN_RELEASE(me, s) -> release(me, s, sending_lock[s]) }
}

/* close(2) and Channel::abandon(); or the death of a process. The last to go closes the socket. */
inline leave(me, s, tells) {
  atomic {
    DRAINED(me) ->
    living[s]--;
    if
    :: living[s] == 0 && tells -> gone[s] = 1
    :: else
    fi
  };
  atomic {
    if
    :: living[s] == 0 -> hup[1 - s] = 1
    :: else
    fi;
    at_end++
  }
}

#ifdef KILLS
#define MORTAL(body) { body } unless { atomic { killed[me] -> dead[me] = 1; count = 0; seen = 0; \
  position = 0; result = 0; found = 0; rung = 0; looks = 0; only_look = 0 }; }
#else
#define MORTAL(body) body
#endif

#define LOCALS \
  byte start, seen, position, count; \
  bit rung, only_look, looks; \
  mtype result, found

proctype reader(byte me; byte s) {
  LOCALS;
  MORTAL(read_all(me, s, (1 - s)));
  leave(me, s, !dead[me])
}

/* Whose last bytes are followed by shutdown(2), by close(2) alone, or by nothing for now. */
proctype writer(byte me; byte s; byte total) {
  LOCALS;
  MORTAL(
    write_all(me, s, total);
    if
    :: living[s] == 1 -> shut_down(me, s)
    :: true
#if !defined(KILL_ONE) || defined(LIMITED)
    :: true -> taken[s] == head[s] || hup[s] /* it waits for an answer */
#endif
    fi
  );
  leave(me, s, !dead[me])
}

#ifdef READER_AND_WRITER
proctype talker(byte me; byte s; byte total) {
  LOCALS;
  write_all(me, s, total);
  shut_down(me, s);
  read_all(me, s, (1 - s));
  leave(me, s, 1)
}
proctype answerer(byte me; byte s; byte total) {
  LOCALS;
  write_all(me, s, total);
  shut_down(me, s);
  leave(me, s, 1)
}
#endif

/* --- the proof --------------------------------------------------------------------------------- */

/*
 * That everybody gets to his end is what spin checks by itself: a state in which nothing more
 * happens and somebody has not finished is an "invalid end state", a lost wake-up or a deadlock.
 */
init {
  atomic {
    living[A] = ON_A;
    living[B] = ON_B;
#ifdef ONE_READER
    run writer(0, A, BYTES);
    run reader(1, B);
#endif
#ifdef TWO_READERS
    run writer(0, A, BYTES);
    run reader(1, B);
    run reader(2, B);
#endif
#ifdef TWO_WRITERS
    run writer(0, A, BYTES / 2);
    run writer(1, A, BYTES - BYTES / 2);
    run reader(2, B);
#endif
#ifdef READER_AND_WRITER
    run talker(0, A, BYTES);
    run reader(1, B);
    run answerer(2, B, BYTES_BACK);
#endif
  };
#ifdef KILL_WRITER_SIDE
  killed[0] = 1;
#endif
#ifdef KILL_READER_SIDE
  killed[1] = 1;
#endif
#ifdef KILL_ONE
#ifdef TWO_WRITERS
  killed[0] = 1;
#else
  killed[1] = 1;
#endif
#endif
  /* Everybody has finished: what was written came out, each byte once. */
  at_end == PEOPLE && DRAINED(0) && DRAINED(1);
#ifndef KILL_READER_SIDE
  assert(taken[A] == head[A]);
#endif
#if !defined(KILLS) && !defined(TWO_WRITERS)
  assert(taken[A] == BYTES);
#endif
#ifdef READER_AND_WRITER
  assert(taken[B] == BYTES_BACK);
#endif
}
