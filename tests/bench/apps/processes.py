"""Processes that scripts/bench-apps starts: how they are started, what they use of the processors, how they end.

Every one is a child of ours in a session of its own, and is sent a signal by the kernel if we are killed. Nothing
is ever ended by its name, and only what was started here is ended.
"""
import ctypes
import os
import pwd
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time

TICKS_PER_SECOND = os.sysconf('SC_CLK_TCK')
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LONGEST_LOG = 64 << 20  # bytes; memcslap writes a line for each request that fails

libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """A program could not be started, or did not do what it was asked for."""


def descendants(pid):
    """The process and all below it. What ends meanwhile is left out."""
    found = [pid]
    for each in found:
        try:
            for task in os.listdir(f'/proc/{each}/task'):
                with open(f'/proc/{each}/task/{task}/children', encoding='ascii') as file:
                    found.extend(map(int, file.read().split()))
        except OSError:
            pass
    return found


def processor_seconds(pids):
    """What these processes, those below them, and the children that they waited for have used so far.

    proc(5): utime, stime, cutime and cstime of /proc/PID/stat. A child that ends moves from the first two of its
    own to the last two of its parent, so the difference of two calls is what was used in between."""
    total = 0
    for pid in pids:
        for each in descendants(pid):
            try:
                with open(f'/proc/{each}/stat', encoding='utf-8', errors='replace') as file:
                    total += sum(map(int, file.read().rpartition(')')[2].split()[11:15]))
            except OSError:
                pass
    return total / TICKS_PER_SECOND


class Processes:
    """The temporary directory, and what runs in there."""

    def __init__(self):
        self.directory = None
        self.running = []  # (Popen, the signals that end it)
        self.starting = False
        self.interrupted_by = None
        self.user = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            for name in ('postgres', 'nobody'):
                try:
                    self.user = pwd.getpwnam(name)
                    break
                except KeyError:
                    pass

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)
        for parent in (tempfile.gettempdir(), '/tmp'):
            self.directory = tempfile.mkdtemp(prefix='tssx-apps.', dir=parent)
            os.chmod(self.directory, 0o755)
            # sun_path has 108 bytes
            if len(self.directory) < 70 and self._usable():
                break
            os.rmdir(self.directory)
        else:
            self.directory = None
            raise Failure('no temporary directory that the servers could use')
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process, _ in reversed(self.running):
            self.stop(process)
        if self.directory:
            self._remove_segments()
            shutil.rmtree(self.directory, ignore_errors=True)

    def _interrupt(self, number, _):
        self.interrupted_by = number
        if not self.starting:
            raise SystemExit(128 + number)

    def _usable(self):
        return subprocess.run(['test', '-x', self.directory], check=False, **self.identity()).returncode == 0

    def identity(self):
        """The user that the programs run as, as subprocess takes it."""
        if not self.user:
            return {}
        groups = os.getgrouplist(self.user.pw_name, self.user.pw_gid)
        return {'user': self.user.pw_uid, 'group': self.user.pw_gid, 'extra_groups': groups}

    def _remove_segments(self):
        """A PostgreSQL that had to be killed leaves a System V segment, its ID is in the seventh line."""
        for folder, _, files in os.walk(self.directory):
            if 'postmaster.pid' in files:
                with open(os.path.join(folder, 'postmaster.pid'), encoding='ascii', errors='replace') as file:
                    line = (file.read().split('\n') + [''] * 7)[6].split()
                if len(line) == 2:
                    subprocess.run(['ipcrm', '-m', line[1]], check=False, stderr=subprocess.DEVNULL)

    def folder(self, *names):
        """A new folder below the temporary directory, of the user that the programs run as."""
        path = os.path.join(self.directory, *names)
        os.makedirs(path, exist_ok=True)
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def start(self, command, log, environment=None, stdin=None, stdout=None, ends_with=(signal.SIGTERM,)):
        """Starts a program; its output goes to the file `log`, standard output to `stdout` if that is given."""

        def prepare():
            libc.prctl(PR_SET_PDEATHSIG, ends_with[0])
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)

        variables = dict(os.environ, LC_ALL='C.UTF-8')
        for name in ('LD_PRELOAD', 'USE_TSSX', 'PGPORT', 'PGOPTIONS', 'PGSERVICE', 'MEMCACHED_SERVERS'):
            variables.pop(name, None)
        variables.update(environment or {})
        self.starting = True  # an interruption in here would lose the process
        try:
            with open(log, 'ab') as output:
                process = subprocess.Popen(
                    command, stdin=stdin or subprocess.DEVNULL, stdout=stdout or output, stderr=output,
                    cwd=self.directory, env=variables, start_new_session=True, preexec_fn=prepare,
                    **self.identity())
            self.running.append((process, ends_with))
        except OSError as error:
            raise Failure(f'{command[0]}: {error}') from error
        finally:
            self.starting = False
        if self.interrupted_by:
            raise SystemExit(128 + self.interrupted_by)
        return process

    def stop(self, process):
        """Politely first. The session is killed only while its leader is ours to wait for, so its number is its own."""
        ends_with = next((ends for each, ends in self.running if each is process), ())
        for number in ends_with:
            if process.poll() is not None:
                break
            process.send_signal(number)
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                pass
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except OSError:
                pass
            process.wait()
        self.running = [entry for entry in self.running if entry[0] is not process]

    def run(self, command, limit, environment=None, stdin=None, discard=False, meanwhile=None):
        """Runs a program to its end: (its output, wall seconds, processor seconds of it and its children).

        `limit`: seconds, after which it is ended and Failure raised. `meanwhile` is called about ten times a second.
        `discard`: standard output goes to /dev/null, only errors are returned."""
        log = os.path.join(self.directory, 'client.log')
        with open(log, 'wb'):
            pass
        began = time.monotonic()
        process = self.start(command, log, environment, stdin, subprocess.DEVNULL if discard else None)
        try:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (LONGEST_LOG, LONGEST_LOG))
        except OSError:
            pass
        handle = os.pidfd_open(process.pid)
        try:
            while not select.select([handle], [], [], 0.1 if meanwhile else limit)[0]:
                if time.monotonic() - began >= limit:
                    self.stop(process)
                    raise Failure(f'{os.path.basename(command[0])} did not end within {limit:.0f} s')
                if meanwhile:
                    meanwhile()
        finally:
            os.close(handle)
        wall = time.monotonic() - began
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.stop(process)
        with open(log, encoding='utf-8', errors='replace') as file:
            output = file.read(1 << 20)
        if process.returncode:
            raise Failure(f'{" ".join(command)}: status {process.returncode}\n{output[-2000:]}')
        return output, wall, usage.ru_utime + usage.ru_stime


def wait_until(condition, seconds, process, log):
    """Waits for a server to be ready. Raises Failure with the end of its log if it does not get there."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() >= end:
            with open(log, encoding='utf-8', errors='replace') as file:
                raise Failure(f'{process.args[0]} does not start:\n{file.read()[-2000:]}')
        time.sleep(0.05)
