#!/bin/bash
# Perl at both ends of a Unix socket: IO::Socket::UNIX with buffered and plain input and output, select with four
# arguments, servers that fork, prefork or use threads, processes started on the socket, duplicated handles, peers
# that are killed. See common.sh and twice.sh for the environment.

TITLE='Perl'
TIME_LIMIT=240
APP_USER=nobody
PROGRAMS='perl'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

S=$R/perl.s
LISTED="$S @$S"
unset PERL5LIB PERL5OPT PERLIO PERL_UNICODE

# server.pl SOCKET KIND: a line tells what a connection, or its next part, is for. Prints "listening".
cat >"$T/server.pl" <<'PERL'
use strict;
use warnings;
use Digest::MD5 'md5_hex';
use IO::Handle;
use IO::Select;
use IO::Socket::UNIX;
use POSIX ':sys_wait_h';
my ($path, $kind) = @ARGV;
$path =~ s/^@/\0/;
my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 128) or die "$path: $!";
STDOUT->autoflush(1);
$SIG{PIPE} = 'IGNORE';
$SIG{TERM} = sub { exit 0 };

sub serve { # one connection, to its end
  my $socket = shift;
  $socket->autoflush(1);
  while (defined(my $line = <$socket>)) {
    my ($what, $number) = split ' ', $line;
    $number //= 0;
    if ($what eq 'line') { print $socket scalar reverse($number), "\n" }
    elsif ($what eq 'take') { # so many bytes come
      my $data = '';
      read $socket, $data, $number;
      print $socket length($data), ' ', md5_hex($data), "\n";
    } elsif ($what eq 'give') { print $socket 'g' x $number, "\n" }
    elsif ($what eq 'lines') { print $socket "line $_\n" for 1 .. $number }
    elsif ($what eq 'records') { # of 1000 bytes, in a buffer that goes when it is full
      $socket->autoflush(0);
      printf $socket '%999d%s', $_, "\n" for 1 .. $number;
      $socket->flush;
      $socket->autoflush(1);
    } elsif ($what eq 'pid') { print $socket "$$\n" }
    elsif ($what eq 'exec') { # another program gets the connection as its standard input and output
      open STDIN, '<&', $socket or die;
      open STDOUT, '>&', $socket or die;
      exec 'sh', '-c', "echo executed; seq $number; cat" or die;
    } elsif ($what eq 'child') { # one more process answers, and we go on after it
      my $pid = fork;
      if (!$pid) {
        print $socket "child: $_\n" for 1 .. $number;
        POSIX::_exit(0);
      }
      waitpid $pid, 0;
      print $socket "parent\n";
    } elsif ($what eq 'pipe') { # a program's standard output is the connection
      open my $program, '-|', "seq $number" or die;
      print $socket $_ while <$program>;
      open my $old, '>&', \*STDOUT or die;
      open STDOUT, '>&', $socket or die;
      system "seq $number | tail -n 3";
      open STDOUT, '>&', $old or die;
      print $socket "after\n";
    } elsif ($what eq 'dup') {
      open my $copy, '+<&', $socket or die;
      $copy->autoflush(1);
      print $copy "by a copy\n";
      close $copy;
      print $socket "by the first\n";
    } elsif ($what eq 'rest') { # all that comes until the end
      local $/;
      my $data = <$socket> // '';
      print $socket length($data), ' ', md5_hex($data), "\n";
    } elsif ($what eq 'forever') {
      1 while print $socket "tick\n" and !select(undef, undef, undef, 0.002);
    } elsif ($what eq 'drop') { last }
  }
}

print "listening\n";
if ($kind eq 'fork') {
  $SIG{CHLD} = sub { 1 while waitpid(-1, WNOHANG) > 0 };
  while (1) {
    my $socket = $listener->accept or next;
    my $pid = fork // die;
    if (!$pid) {
      close $listener;
      $SIG{CHLD} = 'DEFAULT';
      serve($socket);
      exit 0;
    }
    close $socket;
  }
} elsif ($kind eq 'prefork') {
  my @children;
  for (1 .. 4) {
    my $pid = fork // die;
    if ($pid) { push @children, $pid; next }
    $SIG{TERM} = 'DEFAULT';
    while (1) {
      my $socket = $listener->accept or next;
      serve($socket);
    }
  }
  $SIG{TERM} = sub { kill TERM => @children; 1 while wait > 0; exit 0 };
  sleep 1 while 1;
} elsif ($kind eq 'threads') {
  require threads;
  while (1) {
    my $socket = $listener->accept or next;
    threads->create(\&serve, $socket)->detach;
    close $socket;
  }
} elsif ($kind eq 'select') { # one process, sysread and syswrite without waiting: it echoes
  my ($reading, $writing) = (IO::Select->new($listener), IO::Select->new);
  my (%left, %ended);
  while (1) {
    my ($readable, $writable) = IO::Select->select($reading, $writing, undef);
    for my $socket (@$readable) {
      if ($socket == $listener) {
        my $new = $listener->accept or next;
        $new->blocking(0);
        $reading->add($new);
        $left{fileno $new} = '';
        next;
      }
      my $count = sysread $socket, my $data, 50000;
      if (!$count) {
        next if !defined $count and $!{EAGAIN};
        $reading->remove($socket);
        $ended{fileno $socket} = 1;
        $writing->add($socket);
        next;
      }
      $left{fileno $socket} .= $data;
      $writing->add($socket);
      $reading->remove($socket) if length $left{fileno $socket} > 500000;
    }
    for my $socket (@$writable) {
      my $number = fileno $socket // next;
      my $count = 0;
      if ($left{$number} ne '') {
        $count = syswrite $socket, $left{$number}, 30000;
        if (!defined $count) {
          next if $!{EAGAIN};
          $ended{$number} = 1;
          $left{$number} = '';
        } else {
          substr($left{$number}, 0, $count) = '';
        }
      }
      if ($left{$number} eq '') {
        $writing->remove($socket);
        if ($ended{$number}) {
          $reading->remove($socket);
          delete $ended{$number};
          delete $left{$number};
          close $socket;
          next;
        }
      }
      $reading->add($socket) if !$ended{$number} and length $left{$number} < 300000;
    }
  }
}
PERL

# client.pl SOCKET WHAT [NUMBER]
cat >"$T/client.pl" <<'PERL'
use strict;
use warnings;
use Digest::MD5 'md5_hex';
use IO::Handle;
use IO::Select;
use IO::Socket::UNIX;
use Socket;
use Time::HiRes 'sleep';
my ($path, $what, $number) = @ARGV;
$path =~ s/^@/\0/;
STDOUT->autoflush(1);
sub connected {
  my $socket = IO::Socket::UNIX->new(Peer => $path) or die "connect: $!\n";
  $socket->autoflush(1);
  return $socket;
}
sub bytes { my ($size, $seed) = @_; my $block = pack 'N*', map { $_ * 2654435761 + ($seed // 0) & 0xffffffff } 1 .. 5003; substr($block x (1 + $size / length $block), 0, $size) }
my @sizes = (0, 1, 100, 4095, 4096, 8191, 8192, 8193, 65535, 65536, 65537, 262144, 262145, 1000000, 5000000);

if ($what eq 'words') { # a conversation in lines
  my $socket = connected;
  for my $i (1 .. 300) {
    print $socket "line word$i\n";
    my $line = <$socket>;
    $line eq reverse("word$i") . "\n" or die "$i: $line";
  }
  for my $command ('dup', 'child 30', 'pipe 100', 'line after', 'lines 2000', 'records 3000') {
    print $socket "$command\nline the-end\n";
    my @lines;
    while (defined(my $line = <$socket>)) {
      last if $line eq "dne-eht\n";
      push @lines, $line;
    }
    print "$command: ", scalar(@lines), ' ', md5_hex(join '', @lines), "\n";
  }
  shutdown $socket, 1;
  print defined(scalar <$socket>) ? "more\n" : "the end\n";
} elsif ($what eq 'sizes') {
  my $socket = connected;
  for my $size (@sizes) {
    my $data = bytes($size);
    print $socket "take $size\n", $data;
    my $answer = <$socket>;
    print $socket "give $size\n";
    my $given = <$socket>;
    print $size, ' ', $answer eq "$size " . md5_hex($data) . "\n" ? 'right' : 'wrong', ' ', length $given, "\n";
  }
} elsif ($what eq 'system') { # syswrite and sysread, send and recv, recv with MSG_PEEK
  my $socket = connected;
  my $data = bytes(100000);
  for my $size (1, 10, 1000, 65536, 100000) {
    my $request = "take $size\n" . substr $data, 0, $size;
    my $sent = 0;
    $sent += syswrite $socket, $request, 7000, $sent while $sent < length $request;
    my $answer = '';
    sysread $socket, $answer, 5, length $answer until $answer =~ /\n/;
    print $answer;
    defined send $socket, $request, 0 or die "send: $!";
    my $first = '';
    defined recv $socket, $first, 1, MSG_PEEK or die "recv: $!";
    my $second = '';
    while ($second !~ /\n/) { defined recv $socket, my $part, 100, 0 or die; $second .= $part }
    print $first, ' ', $second;
  }
  print $socket "line x\n";
  print IO::Select->new($socket)->can_read(60) ? 'readable ' : 'silent ', sysread($socket, my $all, 100), "\n";
  $socket->blocking(0);
  print defined sysread($socket, $all, 100) ? 'data' : $!{EAGAIN} ? 'EAGAIN' : $!, "\n";
  my ($filled, $count) = (0, 0);
  while (defined($count = syswrite $socket, 'take 100000000' . (' ' x 100))) { $filled += $count; last if $filled > 100000000 }
  print $filled > 5000 ? 'fills ' : 'too little ', $!{EAGAIN} ? 'EAGAIN' : $!, "\n";
  print unpack('H*', getsockname $socket), ' ', getpeername($socket) eq pack_sockaddr_un($path) ? 'named' : 'other', "\n";
} elsif ($what eq 'exec') {
  my $socket = connected;
  print $socket "line $_\n" and scalar <$socket> for 1 .. $number;
  print $socket "exec 1000\n";
  my @lines = map { scalar <$socket> } 0 .. 1000;
  print md5_hex(join '', @lines), "\n";
  print $socket "to the program $_\n" for 1 .. 500;
  shutdown $socket, 1;
  print md5_hex(join '', <$socket>), "\n";
} elsif ($what eq 'rest') {
  for my $size (@sizes) {
    my $socket = connected;
    print $socket "rest\n", bytes($size);
    shutdown $socket, 1;
    print $size, ' ', <$socket>;
  }
} elsif ($what eq 'inherited') { # children of the client use its connection one after the other, then it does itself
  my $socket = connected;
  print $socket "line $_\n" and scalar <$socket> for 1 .. 40;
  for my $i (1 .. 3) {
    if (!(my $pid = fork)) {
      print $socket "line child$i\n";
      print scalar <$socket>;
      POSIX::_exit(0) if eval { require POSIX };
    }
    wait;
  }
  print $socket "line parent\n";
  print scalar <$socket>;
  open my $program, '|-', 'cat >&' . fileno($socket) or die; # close-on-exec: the program has no such descriptor
  close $program;
  $^F = 100; # of new descriptors
  open my $kept, '+<&', $socket or die;
  system 'echo line program >&' . fileno $kept;
  print scalar <$kept>;
} elsif ($what eq 'echo') { # by a loop over select, NUMBER connections at once
  my (%in, %out, %sent);
  my ($reading, $writing) = (IO::Select->new, IO::Select->new);
  for my $i (1 .. $number) {
    my $socket = connected;
    $socket->blocking(0);
    $out{$socket} = bytes(300000, $i);
    ($in{$socket}, $sent{$socket}) = ('', 0);
    $reading->add($socket);
    $writing->add($socket);
  }
  my $right = 0;
  while ($reading->count) {
    my ($readable, $writable) = IO::Select->select($reading, $writing, undef);
    for my $socket (@$writable) {
      my $count = syswrite $socket, $out{$socket}, 20000, $sent{$socket};
      die $! if !defined $count and !$!{EAGAIN};
      $sent{$socket} += $count // 0;
      if ($sent{$socket} == length $out{$socket}) { $writing->remove($socket); shutdown $socket, 1 }
    }
    for my $socket (@$readable) {
      my $count = sysread $socket, $in{$socket}, 100000, length $in{$socket};
      die $! if !defined $count and !$!{EAGAIN};
      if (defined $count and !$count) { $right += $in{$socket} eq $out{$socket}; $reading->remove($socket); close $socket }
    }
  }
  print "$right\n";
} elsif ($what eq 'conversation') { # with whoever echoes
  my $socket = connected;
  for my $i (1 .. 500) {
    print $socket "question $i\n";
    my $line = <$socket>;
    $line eq "question $i\n" or die $line;
  }
  print "500\n";
} elsif ($what eq 'crowd') { # that many processes
  my @pids = map { my $pid = fork; if (!$pid) {
    my $socket = connected;
    for my $i (1 .. 50) {
      my $data = bytes($i * 400, $_);
      print $socket 'take ', length $data, "\n", $data;
      <$socket> eq length($data) . ' ' . md5_hex($data) . "\n" or exit 3;
    }
    exit 0;
  } $pid } 1 .. $number;
  my %ends;
  waitpid($_, 0), $ends{$?}++ for @pids;
  print "$_: $ends{$_}\n" for sort keys %ends;
} elsif ($what eq 'errors') {
  print IO::Socket::UNIX->new(Peer => "$path.none") ? 'connected' : "$!", "\n";
  my $socket = connected;
  $SIG{PIPE} = sub { print "SIGPIPE\n" };
  print $socket "drop\n";
  print defined(scalar <$socket>) ? 'more' : 'the end', "\n";
  print defined(syswrite $socket, 'x') ? 'written' : "$!", "\n";
  $socket = connected;
  print $socket "line alarm\n";
  print scalar <$socket>;
  my $ended = eval { local $SIG{ALRM} = sub { die "alarm\n" }; alarm 1; my $line = <$socket>; 1 };
  print $ended ? 'an answer' : $@;
  print $socket "line goes-on\n";
  print scalar <$socket>;
} elsif ($what eq 'forever') {
  my $socket = connected;
  print $socket "forever\n";
  print "connected\n" if <$socket>;
  1 while <$socket>;
  print "ended\n";
} elsif ($what eq 'stuck') {
  my $socket = connected;
  print $socket "line x\n";
  print scalar <$socket>;
  print $socket "give 100000000\n";
  sleep 100;
}
PERL
chmod 644 "$T"/*.pl

talk() { on client perl "$T/client.pl" "$S" "$@"; }
start_server() { # start_server KIND
  LOG=$T/log/server.$PASS.$1
  start server "$LOG" perl "$T/server.pl" "$S" "$1"
  SERVER=$PID
  check "$PASS: the server starts: $1" wait_for 10 grep -qx listening "$LOG"
}
children_are() { [ "$(descendants "$SERVER" | grep -c .)" = "$1" ]; }
stop_server() { # stop_server KIND
  stop "$SERVER" || fail "$PASS: TERM ends the server: $1"
  check "$PASS: it has nothing to say: $1" cmp <(echo listening) "$LOG"
  rm -f "$S"
}

cases() {
  local kind kinds=(fork prefork)
  ! perl -Mthreads -e 1 2>/dev/null || kinds+=(threads)
  for kind in "${kinds[@]}"; do
    start_server "$kind"
    [ "$kind" != fork ] || check_preload server "$SERVER"
    for WHAT in words sizes system rest errors; do compare "$kind: $WHAT" talk "$WHAT"; done
    compare "$kind: 4 processes" talk crowd 4
    if [ "$kind" = fork ]; then
      compare "children of the client" talk inherited
      for COUNT in 0 1 30; do compare "a program gets the connection after $COUNT lines" talk exec "$COUNT"; done
      compare "30 processes" talk crowd 30
      check "$PASS: all children have ended" wait_for 15 children_are 0
      start client "$T/log/forever" perl "$T/client.pl" "$S" forever
      wait_for 10 grep -q connected "$T/log/forever"
      check_preload client "$PID"
      look "a client that only reads" "$S" 1 perl
      stop "$PID" KILL
      check "$PASS: a killed client: its child ends" wait_for 15 children_are 0
      start client "$T/log/stuck" perl "$T/client.pl" "$S" stuck
      wait_for 10 grep -q x "$T/log/stuck"
      sleep 0.5
      stop "$PID" KILL
      check "$PASS: a killed client that reads nothing: its child ends" wait_for 15 children_are 0
      start client "$T/log/forever" perl "$T/client.pl" "$S" forever
      wait_for 10 grep -q connected "$T/log/forever"
      sleep 0.3
      kill -KILL $(descendants "$SERVER")
      check_ends "$PASS: a killed child: its client ends" "$PID" 15
      compare "what its client says" cat "$T/log/forever"
    fi
    stop_server "$kind"
  done
  start_server select
  for COUNT in 1 10 60; do compare "select: $COUNT connections" talk echo "$COUNT"; done
  compare "select: a conversation" talk conversation
  stop_server select
  S=@$S
  start_server fork
  for WHAT in words sizes system; do compare "an abstract name: $WHAT" talk "$WHAT"; done
  stop_server fork
  S=${S#@}
  compare_failure "refused" talk words
}
run_twice cases
