#!/bin/bash
# Java (the JDK's UnixDomainSocketAddress) at both ends of a Unix socket: channels that block, with a thread for each;
# a Selector; gathering and scattering; files transferred; threads that are interrupted and channels closed under
# them; an inherited channel; peers that are killed. See common.sh and twice.sh for the environment.

TITLE='Java'
TIME_LIMIT=280
APP_USER=nobody
PROGRAMS='java javac socat'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

S=$R/java.s
LISTED=$S
export HOME=$R
unset JAVA_TOOL_OPTIONS _JAVA_OPTIONS CLASSPATH JDK_JAVA_OPTIONS

mkdir "$T/java"
# Server SOCKET threads|selector|inherited: a line of text tells what a connection is for
cat >"$T/java/Server.java" <<'JAVA'
import java.io.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;

public class Server {
  static void serve(SocketChannel channel, Path noise) throws Exception {
    InputStream in = new BufferedInputStream(Channels.newInputStream(channel));
    DataInputStream data = new DataInputStream(in);
    while (true) {
      StringBuilder line = new StringBuilder();
      int c;
      while ((c = in.read()) != '\n') {
        if (c < 0) return;
        line.append((char) c);
      }
      String[] words = line.toString().split(" ");
      int number = words.length > 1 && words[1].matches("[0-9]+") ? Integer.parseInt(words[1]) : 0;
      switch (words[0]) {
        case "line": Bytes.write(channel, ("line " + new StringBuilder(words[1]).reverse() + "\n").getBytes()); break;
        case "take": {
          byte[] bytes = new byte[number];
          data.readFully(bytes);
          Bytes.write(channel, (number + " " + Bytes.sum(bytes) + "\n").getBytes());
          break;
        }
        case "give": Bytes.write(channel, Bytes.noise(number)); break;
        case "gather": { // many buffers in one call
          ByteBuffer[] parts = new ByteBuffer[number];
          for (int i = 0; i < number; i++) parts[i] = ByteBuffer.wrap(("part " + i + ";").getBytes());
          while (parts[number - 1].hasRemaining()) channel.write(parts);
          break;
        }
        case "file":
          try (FileChannel file = FileChannel.open(noise)) {
            for (long done = 0; done < number; ) done += file.transferTo(done, number - done, channel);
          }
          break;
        case "forever":
          try {
            while (true) {
              Bytes.write(channel, Bytes.noise(500));
              Thread.sleep(2);
            }
          } finally {
            channel.close();
          }
        case "half": Bytes.write(channel, Bytes.noise(1000)); channel.shutdownOutput(); break;
        case "drop": channel.close(); return;
      }
    }
  }

  static void select(ServerSocketChannel listener) throws Exception { // echoes, and upper case
    Selector selector = Selector.open();
    listener.configureBlocking(false);
    listener.register(selector, SelectionKey.OP_ACCEPT);
    while (true) {
      selector.select();
      for (SelectionKey key : selector.selectedKeys()) {
        if (key.isAcceptable()) {
          SocketChannel channel = listener.accept();
          if (channel == null) continue;
          channel.configureBlocking(false);
          channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(100000));
          continue;
        }
        SocketChannel channel = (SocketChannel) key.channel();
        ByteBuffer buffer = (ByteBuffer) key.attachment();
        try {
          boolean ended = key.isReadable() && channel.read(buffer) < 0;
          buffer.flip();
          channel.write(buffer);
          boolean left = buffer.hasRemaining();
          buffer.compact();
          if (ended && !left) {
            channel.close();
            continue;
          }
          key.interestOps((left ? SelectionKey.OP_WRITE : 0) | (buffer.hasRemaining() && !ended ? SelectionKey.OP_READ : 0));
          if (ended) key.interestOps(SelectionKey.OP_WRITE);
        } catch (IOException error) {
          channel.close();
        }
      }
      selector.selectedKeys().clear();
    }
  }

  public static void main(String[] arguments) throws Exception {
    Path noise = arguments.length > 2 ? Path.of(arguments[2]) : null;
    if (arguments[1].equals("inherited")) {
      serve((SocketChannel) System.inheritedChannel(), noise);
      System.exit(0);
    }
    ServerSocketChannel listener = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
    listener.bind(UnixDomainSocketAddress.of(arguments[0]), 128);
    System.out.println("listening");
    if (arguments[1].equals("selector")) select(listener);
    while (true) {
      SocketChannel channel = listener.accept();
      new Thread(() -> {
        try (channel) {
          serve(channel, noise);
        } catch (Exception error) { // the client is gone
        }
      }).start();
    }
  }
}
JAVA
cat >"$T/java/Bytes.java" <<'JAVA'
import java.io.*;
import java.math.BigInteger;
import java.nio.*;
import java.nio.channels.*;
import java.security.MessageDigest;
import java.util.Random;

class Bytes {
  static byte[] noise(int size) {
    byte[] bytes = new byte[size];
    new Random(size).nextBytes(bytes);
    return bytes;
  }
  static String sum(byte[] bytes) throws Exception {
    return String.format("%032x", new BigInteger(1, MessageDigest.getInstance("MD5").digest(bytes)));
  }
  static void write(SocketChannel channel, byte[] bytes) throws IOException {
    for (ByteBuffer buffer = ByteBuffer.wrap(bytes); buffer.hasRemaining(); ) channel.write(buffer);
  }
  static byte[] read(SocketChannel channel, int size) throws IOException {
    ByteBuffer buffer = ByteBuffer.allocate(size);
    while (buffer.hasRemaining()) if (channel.read(buffer) < 0) throw new EOFException();
    return buffer.array();
  }
  static String line(SocketChannel channel) throws IOException {
    StringBuilder line = new StringBuilder();
    for (byte[] one; (one = read(channel, 1))[0] != '\n'; ) line.append((char) one[0]);
    return line.toString();
  }
}
JAVA
cat >"$T/java/Client.java" <<'JAVA'
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Client {
  static final int[] SIZES = {0, 1, 100, 4096, 16385, 65535, 65536, 65537, 262144, 262145, 1000000, 5000000};
  static String path;
  static SocketChannel connected() throws Exception { return SocketChannel.open(UnixDomainSocketAddress.of(path)); }

  static String how(Exception error) { // whether the thread waits by then or is about to makes two exceptions of one
    return error instanceof AsynchronousCloseException && !(error instanceof ClosedByInterruptException)
        ? "ClosedChannelException" : error.getClass().getSimpleName();
  }

  static boolean exchange(SocketChannel channel, int size) throws Exception {
    byte[] bytes = Bytes.noise(size);
    Bytes.write(channel, ("take " + size + "\n").getBytes());
    Bytes.write(channel, bytes);
    boolean right = Bytes.line(channel).equals(size + " " + Bytes.sum(bytes));
    Bytes.write(channel, ("give " + size + "\n").getBytes());
    return right && Arrays.equals(Bytes.read(channel, size), bytes);
  }

  public static void main(String[] arguments) throws Exception {
    path = arguments[0];
    int number = arguments.length > 2 && arguments[2].matches("[0-9]+") ? Integer.parseInt(arguments[2]) : 0;
    SocketChannel channel;
    switch (arguments[1]) {
      case "sizes":
        channel = connected();
        for (int size : SIZES) System.out.println(size + " " + exchange(channel, size));
        channel.close();
        break;
      case "kinds":
        channel = connected();
        for (int i = 0; i < 500; i++) {
          Bytes.write(channel, ("line word" + i + "\n").getBytes());
          if (!Bytes.line(channel).equals("line " + new StringBuilder("word" + i).reverse())) throw new Exception("line " + i);
        }
        Bytes.write(channel, "gather 1000\n".getBytes());
        System.out.println(Bytes.sum(Bytes.read(channel, 10 * 7 + 90 * 8 + 900 * 9)));
        Bytes.write(channel, "file 3000000\n".getBytes());
        ByteBuffer[] parts = new ByteBuffer[20]; // many buffers in one call
        for (int i = 0; i < 20; i++) parts[i] = i % 2 == 0 ? ByteBuffer.allocate(150000) : ByteBuffer.allocateDirect(150000);
        while (parts[19].hasRemaining()) if (channel.read(parts) < 0) throw new Exception("the end");
        byte[] all = new byte[3000000];
        for (int i = 0; i < 20; i++) parts[i].flip().get(all, i * 150000, 150000);
        System.out.println(Bytes.sum(all));
        Bytes.write(channel, "take 2000000\n".getBytes());
        try (FileChannel file = FileChannel.open(Path.of(arguments[2]))) {
          for (long done = 0; done < 2000000; ) done += file.transferTo(done, 2000000 - done, channel);
        }
        System.out.println(Bytes.line(channel));
        System.out.println(channel.getRemoteAddress() + " [" + channel.getLocalAddress() + "] " + channel.isConnected());
        Bytes.write(channel, "half\n".getBytes());
        System.out.println(Bytes.sum(Bytes.read(channel, 1000)) + " " + channel.read(ByteBuffer.allocate(10)));
        Bytes.write(channel, "line after\n".getBytes());
        channel.shutdownOutput();
        channel.close();
        break;
      case "threads": {
        AtomicInteger right = new AtomicInteger();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < number; i++) {
          int seed = i;
          Thread thread = new Thread(() -> {
            try (SocketChannel one = connected()) {
              for (int j = 0; j < 20; j++) if (exchange(one, seed * 100 + j * 1000)) right.incrementAndGet();
            } catch (Exception error) {
              System.out.println(error);
            }
          });
          threads.add(thread);
          thread.start();
        }
        for (Thread thread : threads) thread.join();
        System.out.println(right);
        break;
      }
      case "interrupted": { // a thread that waits in read(): the channel is closed, or the thread is interrupted
        for (boolean interrupt : new boolean[] {false, true}) {
          SocketChannel one = connected();
          for (int i = 0; i < 40; i++) {
            Bytes.write(one, "line x\n".getBytes());
            Bytes.line(one);
          }
          CompletableFuture<String> result = new CompletableFuture<>();
          Thread thread = new Thread(() -> {
            try {
              result.complete("read " + one.read(ByteBuffer.allocate(100)));
            } catch (Exception error) {
              result.complete(how(error));
            }
          });
          thread.start();
          Thread.sleep(300);
          if (interrupt) thread.interrupt(); else one.close();
          System.out.println(result.get(60, TimeUnit.SECONDS) + " " + one.isOpen());
        }
        SocketChannel one = connected(); // the same in write()
        Bytes.write(one, "forever\n".getBytes());
        CompletableFuture<String> result = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
          try {
            Bytes.write(one, new byte[100000000]);
            result.complete("written");
          } catch (Exception error) {
            result.complete(how(error));
          }
        });
        thread.start();
        Thread.sleep(300);
        one.close();
        System.out.println(result.get(60, TimeUnit.SECONDS));
        break;
      }
      case "select": { // NUMBER connections to the one that echoes
        Selector selector = Selector.open();
        Map<SocketChannel, ByteBuffer[]> state = new HashMap<>();
        for (int i = 0; i < number; i++) {
          SocketChannel one = SocketChannel.open(StandardProtocolFamily.UNIX);
          one.configureBlocking(false);
          if (!one.connect(UnixDomainSocketAddress.of(path))) one.finishConnect();
          state.put(one, new ByteBuffer[] {ByteBuffer.wrap(Bytes.noise(300000 + i)), ByteBuffer.allocate(300000 + i)});
          one.register(selector, SelectionKey.OP_READ | SelectionKey.OP_WRITE);
        }
        int right = 0;
        while (!state.isEmpty()) {
          selector.select(key -> {
            try {
              SocketChannel one = (SocketChannel) key.channel();
              ByteBuffer[] both = state.get(one);
              if (key.isWritable()) {
                one.write(both[0]);
                if (!both[0].hasRemaining()) {
                  one.shutdownOutput();
                  key.interestOps(SelectionKey.OP_READ);
                }
              }
              if (key.isReadable() && one.read(both[1].hasRemaining() ? both[1] : ByteBuffer.allocate(1)) < 0) {
                key.cancel();
                one.close();
              }
            } catch (Exception error) {
              System.out.println(error);
              System.exit(1);
            }
          });
          for (Iterator<Map.Entry<SocketChannel, ByteBuffer[]>> i = state.entrySet().iterator(); i.hasNext(); ) {
            Map.Entry<SocketChannel, ByteBuffer[]> entry = i.next();
            if (entry.getKey().isOpen()) continue;
            ByteBuffer[] both = entry.getValue();
            if (!both[1].hasRemaining() && Arrays.equals(both[0].array(), both[1].array())) right++;
            i.remove();
          }
        }
        System.out.println(right);
        channel = connected(); // and a conversation
        for (int i = 0; i < 1000; i++) {
          Bytes.write(channel, ("question " + i + "\n").getBytes());
          if (!Bytes.line(channel).equals("question " + i)) throw new Exception("question " + i);
        }
        System.out.println("1000 questions");
        break;
      }
      case "errors":
        for (String other : new String[] {path + ".none", "/etc/passwd", "/" + "x".repeat(200)}) {
          try {
            SocketChannel.open(UnixDomainSocketAddress.of(other));
          } catch (Exception error) {
            System.out.println(error.getClass().getSimpleName() + " " + error.getMessage());
          }
        }
        channel = connected();
        Bytes.write(channel, "drop\n".getBytes());
        System.out.println(channel.read(ByteBuffer.allocate(10)));
        try {
          Bytes.write(channel, "more\n".getBytes());
        } catch (Exception error) {
          System.out.println(error.getClass().getSimpleName() + " " + error.getMessage());
        }
        break;
      case "forever":
        channel = connected();
        Bytes.write(channel, "forever\n".getBytes());
        Bytes.read(channel, 1000);
        System.out.println("connected");
        try {
          while (channel.read(ByteBuffer.allocate(10000)) >= 0) { }
        } catch (java.io.IOException error) { // a reset or an end
        }
        System.out.println("ended");
        break;
    }
    System.exit(0);
  }
}
JAVA

JAVA=(java -Xshare:auto -XX:TieredStopAtLevel=1 -Xmx256m -XX:-UsePerfData -cp "$T/java")
talk() { on client "${JAVA[@]}" Client "$S" "$@"; }
start_server() { # start_server KIND
  LOG=$T/log/server.$PASS.$1
  start server "$LOG" "${JAVA[@]}" Server "$S" "$1" "$T/noise"
  SERVER=$PID
  check "$PASS: the server starts: $1" wait_for 20 grep -qx listening "$LOG"
}
stop_server() { # stop_server KIND
  stop "$SERVER" || fail "$PASS: TERM ends the server: $1"
  check "$PASS: it has nothing to say: $1" cmp <(echo listening) "$LOG"
  rm -f "$S"
}
accepted_are() { # accepted_are COUNT: so many connections to the server are open at its end
  [ "$(awk -v path="$S" '$6 == "03" && $8 == path' /proc/net/unix | wc -l)" = "$1" ]
}

cases() {
  start_server threads
  check_preload server "$SERVER"
  compare "threads: sizes" talk sizes
  compare "threads: kinds" talk kinds "$T/noise"
  compare "threads: 30 connections" talk threads 30
  compare "threads: closed and interrupted" talk interrupted
  compare "threads: errors" talk errors
  check "$PASS: all connections are closed" wait_for 15 accepted_are 0
  start client "$T/log/forever.1" "${JAVA[@]}" Client "$S" forever
  local one=$PID
  start client "$T/log/forever.2" "${JAVA[@]}" Client "$S" forever
  local two=$PID
  check "$PASS: a client" wait_for 15 grep -q connected "$T/log/forever.1"
  check "$PASS: two clients" wait_for 15 grep -q connected "$T/log/forever.2"
  check_preload client "$one"
  look "two clients" "$S" 2 java
  stop "$one" KILL
  check "$PASS: a killed client: the server notices" wait_for 15 accepted_are 1
  stop "$SERVER" KILL
  check_ends "$PASS: a killed server: its client ends" "$two" 15
  compare "a killed server: what its client says" cat "$T/log/forever.2"
  rm -f "$S"
  start_server selector
  for COUNT in 1 10 60; do compare "selector: $COUNT connections" talk select "$COUNT"; done
  stop_server selector
  # Java gets each connection as its standard input, as from inetd
  start server "$T/log/inetd.$PASS" socat "UNIX-LISTEN:$S,fork" "EXEC:$T/inherited,nofork"
  SERVER=$PID
  wait_for 10 listens "$S"
  compare "inherited: sizes" talk sizes
  compare "inherited: kinds" talk kinds "$T/noise"
  stop "$SERVER"
  compare "inherited: nothing is said" cat "$T/log/inetd.$PASS"
  rm -f "$S"
  compare_failure "refused" talk sizes
}

if ! javac -d "$T/java" "$T"/java/*.java >"$T/log/javac" 2>&1; then
  fail "the programs compile" "$(cat "$T/log/javac")"
  finish
fi
chmod -R a+rX "$T/java"
printf '#!/bin/sh\nexec %s\n' "${JAVA[*]} Server x inherited $T/noise" >"$T/inherited"
chmod 755 "$T/inherited"
head -c 5000000 /dev/urandom >"$T/noise"
run_twice cases
