#!/bin/bash
# dbus-daemon, a private bus, with clients of three libraries: libdbus (dbus-send, dbus-monitor, python3-dbus), GDBus
# (gdbus, python3-gi), sd-bus (busctl). Calls, signals, large messages, descriptors that are passed, all ways to
# authenticate, clients and buses that are killed. See common.sh and twice.sh for the environment.

TITLE='D-Bus'
TIME_LIMIT=280
APP_USER=nobody
PROGRAMS='dbus-daemon dbus-send dbus-monitor gdbus busctl python3'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

python=$(command -v /usr/bin/python3 || command -v python3)
"$python" -c 'import dbus, gi' 2>/dev/null || { echo "$TITLE: skipped, python3-dbus or python3-gi is not installed"; exit 77; }
S=$R/bus
LISTED=$S
ADDRESS=unix:path=$S
export HOME=$R XDG_RUNTIME_DIR=$R DBUS_SESSION_BUS_ADDRESS=$ADDRESS G_DBUS_DEBUG= GIO_USE_VFS=local
unset DBUS_SYSTEM_BUS_ADDRESS DBUS_STARTER_ADDRESS

cat >"$T/bus.conf" <<CONF
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>$ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
  <limit name="max_message_size">200000000</limit>
  <limit name="max_incoming_bytes">400000000</limit>
  <limit name="max_outgoing_bytes">400000000</limit>
</busconfig>
CONF

cat >"$T/gservice.py" <<'PYTHON'
"""A service over GDBus."""
import hashlib, os
from gi.repository import Gio, GLib

XML = '''<node><interface name="test.Service">
  <method name="Echo"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
  <method name="Sum"><arg type="ay" direction="in"/><arg type="s" direction="out"/></method>
  <method name="Bytes"><arg type="u" direction="in"/><arg type="ay" direction="out"/></method>
  <method name="Read"><arg type="h" direction="in"/><arg type="s" direction="out"/></method>
  <method name="Open"><arg type="s" direction="in"/><arg type="h" direction="out"/></method>
  <method name="Emit"><arg type="u" direction="in"/></method>
  <method name="Fail"/>
  <method name="Quit"/>
  <signal name="Tick"><arg type="u"/><arg type="s"/></signal>
  <property name="Number" type="u" access="readwrite"/>
</interface></node>'''
loop = GLib.MainLoop()
number = 7

def called(bus, sender, path, interface, method, arguments, call):
    a = arguments.unpack() if method != 'Sum' else ()
    if method == 'Echo':
        call.return_value(GLib.Variant('(s)', a))
    elif method == 'Sum':
        call.return_value(GLib.Variant('(s)', (hashlib.md5(arguments.get_child_value(0).get_data_as_bytes().get_data()).hexdigest(),)))
    elif method == 'Bytes':
        data = GLib.Variant.new_from_bytes(GLib.VariantType('ay'), GLib.Bytes((bytes(range(251)) * (a[0] // 251 + 1))[:a[0]]), True)
        call.return_value(GLib.Variant.new_tuple(data))
    elif method == 'Read':
        fds = call.get_message().get_unix_fd_list()
        with open(fds.get(a[0]), 'rb') as file:
            call.return_value(GLib.Variant('(s)', (hashlib.md5(file.read()).hexdigest(),)))
    elif method == 'Open':
        fd = os.open(a[0], os.O_RDONLY)
        fds = Gio.UnixFDList.new()
        handle = fds.append(fd)
        os.close(fd)
        call.return_value_with_unix_fd_list(GLib.Variant('(h)', (handle,)), fds)
    elif method == 'Emit':
        for i in range(a[0]):
            bus.emit_signal(None, '/test', 'test.Service', 'Tick', GLib.Variant('(us)', (i, 'x' * (i % 500))))
        call.return_value(None)
    elif method == 'Fail':
        call.return_dbus_error('test.Failed', 'as it was asked to')
    elif method == 'Quit':
        call.return_value(None)
        bus.flush_sync()
        loop.quit()

def get(bus, sender, path, interface, name):
    return GLib.Variant('u', number)
def set(bus, sender, path, interface, name, value):
    global number
    number = value.unpack()
    return True

def acquired(bus, name):
    bus.register_object('/test', Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0], called, get, set)
Gio.bus_own_name(Gio.BusType.SESSION, 'test.Service', Gio.BusNameOwnerFlags.NONE, acquired, None, lambda *_: loop.quit())
loop.run()
PYTHON

cat >"$T/dservice.py" <<'PYTHON'
"""The same over libdbus, as far as it is needed."""
import hashlib, os, dbus, dbus.service, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
loop = GLib.MainLoop()
class Service(dbus.service.Object):
    @dbus.service.method('test.Service', in_signature='s', out_signature='s')
    def Echo(self, text):
        return text
    @dbus.service.method('test.Service', in_signature='ay', out_signature='s', byte_arrays=True)
    def Sum(self, data):
        return hashlib.md5(data).hexdigest()
    @dbus.service.method('test.Service', in_signature='u', out_signature='ay')
    def Bytes(self, count):
        return dbus.ByteArray((bytes(range(251)) * (count // 251 + 1))[:count])
    @dbus.service.method('test.Service', in_signature='h', out_signature='s')
    def Read(self, fd):
        with open(fd.take(), 'rb') as file:
            return hashlib.md5(file.read()).hexdigest()
    @dbus.service.method('test.Service', in_signature='s', out_signature='h')
    def Open(self, path):
        fd = os.open(path, os.O_RDONLY)
        try:
            return dbus.types.UnixFd(fd)
        finally:
            os.close(fd)
    @dbus.service.method('test.Service', in_signature='u')
    def Emit(self, count):
        for i in range(count):
            self.Tick(i, 'x' * (i % 500))
    @dbus.service.signal('test.Service', signature='us')
    def Tick(self, number, text):
        pass
    @dbus.service.method('test.Service')
    def Quit(self):
        GLib.timeout_add(100, loop.quit)
bus = dbus.SessionBus()
name = dbus.service.BusName('test.Service', bus)
Service(bus, '/test')
loop.run()
PYTHON

cat >"$T/client.py" <<'PYTHON'
"""client.py glib|libdbus|raw WHAT [NUMBER]"""
import hashlib, os, socket, struct, sys, time
library, what = sys.argv[1:3]
number = int(sys.argv[3]) if len(sys.argv) > 3 else 0
file = os.environ['HOME'] + '/file'

if library == 'glib':
    from gi.repository import Gio, GLib
    bus = Gio.bus_get_sync(Gio.BusType.SESSION)
    bus.set_exit_on_close(False)
    def call(method, arguments=None, fds=None):
        result, back = bus.call_with_unix_fd_list_sync('test.Service', '/test', 'test.Service', method, arguments, None, 0, 60000, fds)
        return result, back
    def echo(text):
        return call('Echo', GLib.Variant('(s)', (text,)))[0].unpack()[0]
    def sum_of(data):
        data = GLib.Variant.new_from_bytes(GLib.VariantType('ay'), GLib.Bytes(data), True)
        return call('Sum', GLib.Variant.new_tuple(data))[0].unpack()[0]
    def get(count):
        return call('Bytes', GLib.Variant('(u)', (count,)))[0].get_child_value(0).get_data_as_bytes().get_data()
    def give(fd):
        fds = Gio.UnixFDList.new()
        return call('Read', GLib.Variant('(h)', (fds.append(fd),)), fds)[0].unpack()[0]
    def take():
        result, fds = call('Open', GLib.Variant('(s)', (file,)))
        return fds.get(result.unpack()[0])
elif library == 'libdbus':
    import dbus
    bus = dbus.SessionBus()
    service = dbus.Interface(bus.get_object('test.Service', '/test', introspect=False), 'test.Service')
    echo = lambda text: str(service.Echo(text, signature='s'))
    sum_of = lambda data: str(service.Sum(dbus.ByteArray(data), signature='ay', timeout=60))
    get = lambda count: bytes(service.Bytes(dbus.UInt32(count), byte_arrays=True, timeout=60))
    give = lambda fd: str(service.Read(dbus.types.UnixFd(fd), signature='h'))
    take = lambda: service.Open(file, signature='s').take()

def md5(data):
    return hashlib.md5(data).hexdigest()

if what == 'calls':
    print(sum(echo('text %d' % i) == 'text %d' % i for i in range(number)))
elif what == 'sizes':
    for size in (0, 1, 1000, 65536, 1000000, number):
        data = b'0123456789abcdef' * (size // 16)
        print(size, sum_of(data) == md5(data), md5(get(size)))
elif what == 'descriptors':                       # between ordinary calls, so that they meet each connection anywhere
    for i in range(number):
        with open(file, 'rb') as f:
            print(i, give(f.fileno()), end=' ')
        print(echo('between'), end=' ')
        fd = take()
        print(md5(open(fd, 'rb').read()))
elif what == 'pipe':
    for i in range(number):
        r, w = os.pipe()
        os.write(w, b'through a pipe %d' % i)
        os.close(w)
        print(give(r), [echo('again %d' % j) for j in range(i)])
        os.close(r)
elif what == 'busy':
    print('started', flush=True)
    try:
        while True:
            assert echo('busy') == 'busy'
            time.sleep(0.003)
    except Exception as error:
        print('ended')
elif what == 'name':                              # owns a name until it is killed
    bus.call_sync('org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', 'RequestName',
                  GLib.Variant('(su)', ('test.Name%d' % number, 0)), None, 0, -1)
    print('started', flush=True)
    time.sleep(100)
elif what == 'credentials':                       # the protocol by hand, byte after byte, with SCM_CREDENTIALS
    s = socket.socket(socket.AF_UNIX)
    s.connect(file[:-4] + 'bus')
    # sendmsg(2) and unix(7); all zero would be a forgery for others than root
    s.sendmsg([b'\0'], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack('3i', os.getpid(), os.getuid(), os.getgid()))])
    def ask(line):
        s.sendall(line + b'\r\n')
        return s.recv(1000).split(b' ')[0].strip()
    print(ask(b'AUTH'), ask(b'AUTH ANONYMOUS'), ask(b'NONSENSE'))
    print(ask(b'AUTH EXTERNAL ' + str(os.getuid()).encode().hex().encode()), ask(b'NEGOTIATE_UNIX_FD'))
    for byte in b'BEGIN\r\n':
        s.sendall(bytes((byte,)))
    hello = (b'l\1\0\1\0\0\0\0\1\0\0\0\x6e\0\0\0\1\1o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0'
             b'\6\1s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\2\1s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0'
             b'\3\1s\0\5\0\0\0Hello\0\0\0')
    for i in range(0, len(hello), 5):
        s.sendall(hello[i:i + 5])
        time.sleep(0.002)
    answer = s.recv(1000)
    print(answer[:2], b':1.' in answer)
elif what == 'wrong':                             # a message that makes no sense: the bus hangs up
    s = socket.socket(socket.AF_UNIX)
    s.connect(file[:-4] + 'bus')
    s.sendall(b'\0AUTH EXTERNAL %s\r\n' % str(os.getuid()).encode().hex().encode())
    print(s.recv(1000).split(b' ')[0])
    s.sendall(b'BEGIN\r\n' + b'z' * 1000)
    try:
        while s.recv(1000):
            pass
        print('end')
    except ConnectionResetError:
        print('reset')
PYTHON

normal() { sed -E 's/:1\.[0-9]+/:1.N/g; s/(time|serial|reply_serial|cookie)=[0-9.]+/\1=N/g; s/uint32 [0-9]{4,}/uint32 N/g'; }
program() { on client "$python" "$T/client.py" "$@"; }
send() { on client dbus-send --session --print-reply "$@"; }
bus_method() { send --dest=org.freedesktop.DBus /org/freedesktop/DBus "org.freedesktop.DBus.$1" "${@:2}"; }
service() { send --dest=test.Service /test "test.Service.$1" "${@:2}"; }
gcall() { on client gdbus call --address "$ADDRESS" --dest test.Service --object-path /test --method "test.Service.$1" "${@:2}"; }
bctl() { on client busctl --address="$ADDRESS" "$@"; }
has_owner() { on neither dbus-send --session --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus \
  org.freedesktop.DBus.NameHasOwner "string:$1" 2>/dev/null | grep -q 'boolean true'; }
has_no_owner() { ! has_owner "$1"; }
sums() { md5sum | cut -d ' ' -f 1; }

start_bus() {
  start server "$T/log/bus.$PASS" dbus-daemon --nofork --nopidfile --nosyslog --config-file="$T/bus.conf"
  SERVER=$PID
  wait_for 10 listens "$S"
}
start_service() { # start_service KIND
  start client "$T/log/service.$PASS" "$python" "$T/$1.py"
  SERVICE=$PID
  wait_for 10 has_owner test.Service || fail "$PASS: the service starts: $1" "$(cat "$T/log/service.$PASS")"
}

service_cases() { # service_cases KIND: what each service must do for each kind of client
  local kind=$1 client
  start_service "$kind"
  compare "$kind: dbus-send" service Echo string:hello
  compare "$kind: gdbus" gcall Echo "'from gdbus'"
  compare "$kind: gdbus, bytes" eval 'gcall Bytes 100000 | sums'
  compare "$kind: busctl" bctl call test.Service /test test.Service Echo s 'from busctl'
  compare "$kind: busctl, bytes" eval 'bctl call test.Service /test test.Service Bytes u 100000 | sums'
  compare "$kind: busctl, introspection" eval 'bctl introspect test.Service /test | grep -E "Echo|Tick|Number"'
  compare "$kind: an unknown method" eval 'service Nothing 2>&1 | grep -o "^Error [a-zA-Z.]*"'
  compare "$kind: 50 calls by as many processes" eval 'for i in {1..50}; do service Echo "string:call $i" | tail -n 1; done | sums'
  compare "$kind: ten processes at once" eval 'for i in {1..10}; do gcall Echo "call $i" & done | sort; wait'
  for client in glib libdbus; do
    compare "$kind: 1000 calls by $client" program "$client" calls 1000
    compare "$kind: large messages by $client" program "$client" sizes 3000000
    compare "$kind: descriptors by $client" program "$client" descriptors 12
    compare "$kind: pipes by $client" program "$client" pipe 8
  done
  compare "$kind: four busy clients" eval 'for i in 1 2; do program glib calls 400 & program libdbus calls 400 & done; wait'

  # signals, to listeners of three kinds
  local listeners=()
  start client "$T/log/gdbus" gdbus monitor --address "$ADDRESS" --dest test.Service
  listeners+=("$PID")
  start client "$T/log/dbus-monitor" dbus-monitor --address "$ADDRESS" --profile "type='signal',interface='test.Service'"
  listeners+=("$PID")
  start client "$T/log/busctl" busctl --address="$ADDRESS" --match="type='signal',interface='test.Service'" monitor
  listeners+=("$PID")
  wait_for 5 grep -q 'owned by' "$T/log/gdbus"
  wait_for 5 grep -q NameLost "$T/log/dbus-monitor"
  wait_for 5 grep -q Monitoring "$T/log/busctl"
  compare "$kind: 300 signals" service Emit uint32:300
  compare "$kind: gdbus has them" eval 'wait_for 10 grep -q "uint32 299" "$T/log/gdbus"; grep Tick "$T/log/gdbus" | sums'
  ticks() { [ "$(grep -c Tick "$T/log/$1")" -ge "$2" ]; }
  compare "$kind: dbus-monitor has them" eval 'wait_for 10 ticks dbus-monitor 300; grep -c Tick "$T/log/dbus-monitor"'
  compare "$kind: busctl has them" eval 'wait_for 10 ticks busctl 300; grep -A 4 Tick "$T/log/busctl" | grep -c "UINT32 "'
  local name
  for name in 'busctl$' 'gdbus$' 'dbus-monitor$'; do
    look_from_outside && note "$kind: $(connections "${name%\$}" | cut -d ' ' -f 2 | sort | uniq -c | tr '\n' ' ')of ${name%\$}"
  done
  for PID in "${listeners[@]}"; do stop "$PID"; done

  start client "$T/log/busy.1" "$python" "$T/client.py" glib busy
  local one=$PID
  start client "$T/log/busy.2" "$python" "$T/client.py" libdbus busy
  local two=$PID
  wait_for 10 grep -q started "$T/log/busy.1"
  wait_for 10 grep -q started "$T/log/busy.2"
  check_preload client "$two"
  look "$kind: the service and two busy clients" "$LISTED" 3
  stop "$one" KILL
  compare "$kind: a killed client: the others go on" program glib calls 100
  compare "$kind: the service ends" service Quit
  wait_for 5 gone "$SERVICE"
  compare "$kind: its name is free" eval 'wait_for 5 has_no_owner test.Service; bus_method NameHasOwner string:test.Service'
  compare "$kind: its client notices" eval 'wait_for 5 gone "$two"; cat "$T/log/busy.2"'
  stop "$two"
  stop "$SERVICE"
}

cases() {
  head -c 300000 "$T/noise" >file
  start_bus || fail "$PASS: the bus starts" "$(cat "$T/log/bus.$PASS")"
  check_preload server "$SERVER"
  compare "names" bus_method ListNames
  compare "who is who" eval 'bus_method GetConnectionUnixUser string:org.freedesktop.DBus'
  compare "credentials" eval 'bctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus GetConnectionCredentials s org.freedesktop.DBus |
    grep -o "UnixUserID. u [0-9]*"'
  compare "busctl list" eval 'bctl list --no-legend | grep -c "^:1\."; bctl status org.freedesktop.DBus | grep -E "^(EUID|Comm)"'
  compare "SCM_CREDENTIALS by hand" program raw credentials
  compare "nonsense" program raw wrong
  service_cases gservice
  service_cases dservice

  start client "$T/log/watch" gdbus monitor --address "$ADDRESS" --dest org.freedesktop.DBus
  local watch=$PID names=()
  wait_for 5 grep -q 'owned by' "$T/log/watch"
  for i in {1..10}; do
    start client "$T/log/name.$i" "$python" "$T/client.py" glib name "$i"
    names+=("$PID")
  done
  for i in {1..10}; do wait_for 10 has_owner "test.Name$i"; done
  compare "ten names" eval 'bus_method ListNames | grep test | sort'
  for PID in "${names[@]}"; do stop "$PID" KILL; done
  compare "their owners are killed" eval 'for i in {1..10}; do wait_for 5 has_no_owner "test.Name$i"; done; bus_method ListNames | grep -c test; :'
  compare "that is told to who listens" eval "wait_for 5 grep -q \"NameOwnerChanged ('test.Name10', ':1.*', '')\" \"\$T/log/watch\";
    grep -o \"NameOwnerChanged ('test.Name[0-9]*', '\" \"\$T/log/watch\" | sort | uniq -c"
  start_service gservice
  start client "$T/log/busy" "$python" "$T/client.py" libdbus busy
  local busy=$PID
  wait_for 10 grep -q started "$T/log/busy"
  sleep 0.5
  stop "$SERVER" KILL
  compare "a killed bus: gdbus ends" eval 'wait_for 5 gone "$watch"; alive "$watch" && echo it lives; :'
  compare "a killed bus: a busy client ends" eval 'wait_for 5 gone "$busy"; cat "$T/log/busy"'
  compare "a killed bus: the service ends" eval 'wait_for 5 gone "$SERVICE"; alive "$SERVICE" && echo it lives; :'
  stop "$watch"
  stop "$busy"
  stop "$SERVICE"
  compare "refused" eval 'bus_method ListNames; echo $?'
  rm -f "$S"
  start_bus || fail "$PASS: the bus starts again" "$(cat "$T/log/bus.$PASS")"
  compare "another bus" bus_method ListNames
  stop "$SERVER" || fail "$PASS: TERM ends the bus"
  rm -f "$S"
}

head -c 300000 /dev/urandom >"$T/noise"
run_twice cases
