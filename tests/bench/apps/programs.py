"""The programs that scripts/bench-apps measures: a pair of servers of each, and their load generators.

A Program has two servers with the same data, one for each side, `kernel` and `tssx`. The second is preloaded, as its
clients are; the first may be preloaded with another library, to compare two. `measure` makes one measurement of a cell and returns a Sample.
"""
import dataclasses
import glob
import os
import random
import re
import shutil
import signal
import socket
import time

from processes import Failure, descendants, processor_seconds, wait_until

SIDES = ('kernel', 'tssx')


@dataclasses.dataclass
class Sample:
    """One measurement. Throughput is in units of the cell a second, latencies are in microseconds."""
    throughput: float
    operations: float  # those that the processor times are for
    client_seconds: float
    latency: dict
    wall: float


@dataclasses.dataclass
class Cell:
    """What is measured: NAME is what --filter selects, `connections` how many must be on rings (None: any)."""
    name: str
    what: str
    unit: str
    connections: int | None
    options: dict


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


class Program:
    needs = ()  # commands
    cells = ()
    socket_name = 'socket'

    def __init__(self, processes, libraries, names):
        self.processes = processes
        self.libraries = libraries  # for each side what is preloaded, None for nothing
        self.names = names
        self.servers = {}
        self.rates = {}  # for load generators that take a number of operations and not a time
        self.path = {}
        for side in SIDES:
            self.path[side] = os.path.join(processes.folder(type(self).__name__.lower() + '-' + side), self.socket_name)

    @classmethod
    def missing(cls):
        return [name for name in cls.needs if not shutil.which(name)]

    def environment(self, side):
        if not self.libraries[side]:
            return {}
        return {'LD_PRELOAD': self.libraries[side], 'USE_TSSX': self.path[side]}

    def log(self, side):
        return os.path.join(self.processes.directory, f'{type(self).__name__.lower()}-{side}.log')

    def launch(self, side, command, ready, **more):
        """A server of that side, which `ready` says when it can be used."""
        process = self.processes.start(command, self.log(side), self.environment(side), **more)
        wait_until(ready, 30, process, self.log(side))
        return process

    def listens(self, side):
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self.path[side])
            return True
        except OSError:
            return False

    def start(self):
        for side in SIDES:
            self.servers[side] = self.start_server(side)

    def stop(self):
        for process in self.servers.values():
            self.processes.stop(process)
        self.servers = {}

    def server_pids(self, side):
        return [self.servers[side].pid]

    def client_pids(self, side):
        """Clients of the socket that are not started for each measurement."""
        return []

    def check_library(self):
        """Each server has the library of its side, and not that of the other."""
        for side in SIDES:
            for pid in self.server_pids(side) + self.client_pids(side):
                with open(f'/proc/{pid}/maps', encoding='utf-8', errors='replace') as file:
                    maps = file.read()
                if any((library in maps) != (library == self.libraries[side])
                       for library in self.libraries.values() if library):
                    raise Failure(f'process {pid} of {type(self).__name__}, side {side}: the wrong library')

    def prepare(self, cell):
        """What that cell needs beyond the servers."""

    def settle(self, side):
        """Waits for what a server does after its clients are gone, which is part of the measurement before."""

    def run(self, side, command, limit, meanwhile=None, **more):
        return self.processes.run(command, limit, self.environment(side), meanwhile=meanwhile, **more)

    def number(self, cell, side, seconds, first):
        """How many operations take that long, as far as is known."""
        return max(int(self.rates.get((cell.name, side), first) * seconds), first // 10, 1)

    def start_server(self, side):
        raise NotImplementedError

    def measure(self, cell, side, seconds, meanwhile=None):
        raise NotImplementedError


class Postgres(Program):
    """PostgreSQL with its own benchmark, and psql for bulk data."""
    needs = ('pgbench', 'psql')
    socket_name = '.s.PGSQL.5432'
    scale = 8
    wide_rows = 200_000  # of about 1 kB
    cells = (
        *(Cell(f'pgbench-{mode}-c{n}', f'pgbench -S -M {mode}, {n} clients', 'tx/s', n,
               {'arguments': ['-n', '-S', '-M', mode], 'clients': n})
          for mode in ('prepared', 'simple') for n in (1, 2, 8, 32)),
        *(Cell(f'pgbench-tpcb-c{n}', f'pgbench, TPC-B-like, {n} clients, fsync off, unlogged tables', 'tx/s', n,
               {'arguments': [], 'clients': n}) for n in (1, 8)),
        Cell('copy-out', 'COPY of 200 MB in rows of 1 kB to psql > /dev/null', 'MB/s', 1,
             {'copy': 'COPY wide TO STDOUT'}),
        # With WHERE false the rows are read and parsed and then dropped: no table, no disk.
        Cell('copy-in', 'COPY of 200 MB in rows of 1 kB from psql < file, rows parsed and dropped', 'MB/s', 1,
             {'copy': 'COPY wide FROM STDIN WHERE id < 0'}),
    )

    def __init__(self, processes, libraries, names):
        super().__init__(processes, libraries, names)
        self.bin = self.directory_of_programs()
        self.prepared = set()
        self.bytes = 0
        self.file = os.path.join(processes.folder('copy'), 'wide')

    @classmethod
    def directory_of_programs(cls):
        found = [os.path.dirname(path) for path in glob.glob('/usr/lib/postgresql/*/bin/initdb')]
        found.sort(key=lambda path: int(re.search(r'/(\d+)/', path).group(1)))
        return found[-1] if found else os.path.dirname(shutil.which('initdb') or '')

    @classmethod
    def missing(cls):
        bin_directory = cls.directory_of_programs()
        return [name for name in ('initdb', 'postgres', 'pgbench', 'psql')
                if not os.access(os.path.join(bin_directory, name), os.X_OK)]

    def tool(self, name):
        return os.path.join(self.bin, name)

    def client(self, side):
        return ['env', f'PGHOST={os.path.dirname(self.path[side])}', 'PGUSER=postgres', 'PGDATABASE=postgres']

    def start(self):
        data = os.path.join(self.processes.folder('data'), 'kernel')
        self.processes.run([self.tool('initdb'), '-D', data, '-U', 'postgres', '--no-locale', '-E', 'UTF8',
                            '-A', 'trust', '--no-sync'], 120)
        with open(os.path.join(data, 'postgresql.conf'), 'a', encoding='ascii') as file:
            file.write("listen_addresses = ''\nfsync = off\nautovacuum = off\nmax_connections = 60\n"
                       'shared_buffers = 600MB\nmax_wal_size = 4GB\ncheckpoint_timeout = 1h\n'
                       'dynamic_shared_memory_type = mmap\n')
        self.processes.run(['cp', '-a', data, data.replace('kernel', 'tssx')], 60)
        super().start()
        time.sleep(0.5)  # the last of their own processes and the end of the client that asked
        self.resting = {side: len(descendants(self.servers[side].pid)) for side in SIDES}

    def start_server(self, side):
        command = [self.tool('postgres'), '-D', os.path.join(self.processes.directory, 'data', side),
                   '-k', os.path.dirname(self.path[side])]

        def ready():
            try:
                return self.sql(side, 'select 1').strip() == '1'
            except Failure:
                return False

        return self.launch(side, command, ready, ends_with=(signal.SIGINT, signal.SIGQUIT))

    def settle(self, side):
        end = time.monotonic() + 5
        while len(descendants(self.servers[side].pid)) > self.resting[side] and time.monotonic() < end:
            time.sleep(0.02)

    def sql(self, side, text):
        return self.processes.run(self.client(side) + [self.tool('psql'), '-XAtqc', text], 120)[0]

    def prepare(self, cell):
        kind = 'wide' if 'copy' in cell.options else 'accounts'
        if kind in self.prepared:
            return
        for side in SIDES:
            if kind == 'accounts':
                self.processes.run(self.client(side) + [self.tool('pgbench'), '-i', '-q', '--unlogged-tables',
                                                        '-s', str(self.scale)], 180)
                # Table and index into the shared buffers: no measurement is to be the one that reads them from files.
                self.sql(side, 'SELECT count(*) FROM pgbench_accounts')
                self.sql(side, 'SET enable_seqscan = off; SELECT count(aid) FROM pgbench_accounts WHERE aid > 0')
            else:
                # Rows below 2 kB are not compressed, so that sending and not unpacking is what takes time.
                self.sql(side, 'CREATE UNLOGGED TABLE wide (id int, text text);'
                               'INSERT INTO wide SELECT i, repeat(md5(i::text), 31) '
                               f'FROM generate_series(1, {self.wide_rows}) i')
                self.sql(side, 'VACUUM ANALYZE wide')
            self.sql(side, 'CHECKPOINT')
        if kind == 'wide':
            self.processes.run(self.client('kernel') + [self.tool('psql'), '-Xqc', f"COPY wide TO '{self.file}'"], 120)
            self.bytes = os.path.getsize(self.file)
        self.prepared.add(kind)

    def measure(self, cell, side, seconds, meanwhile=None):
        if 'copy' in cell.options:
            return self.copy(cell, side, seconds, meanwhile)
        prefix = os.path.join(self.processes.folder('pgbench'), 'log')
        clients = cell.options['clients']
        # One transaction of 50 is written down, for the percentiles.
        command = self.client(side) + [
            self.tool('pgbench'), *cell.options['arguments'], '-c', str(clients), '-j', str(min(clients, 2)),
            '-T', str(max(1, round(seconds))), '-l', '--sampling-rate=0.02', f'--log-prefix={prefix}']
        output, wall, used = self.run(side, command, seconds + 60, meanwhile)
        rate = re.search(r'^tps = ([0-9.]+)', output, re.M)
        count = re.search(r'^number of transactions actually processed: (\d+)', output, re.M)
        if not rate or not count or 'aborted' in output:
            raise Failure(f'pgbench: {output[-2000:]}')
        times = []
        for name in glob.glob(prefix + '*'):
            with open(name, encoding='ascii') as file:
                times += [int(line.split()[2]) for line in file]
            os.unlink(name)
        average = re.search(r'^latency average = ([0-9.]+) ms', output, re.M)
        latency = {'average': float(average.group(1)) * 1000} if average else {}
        if len(times) >= 20:
            latency.update(p50=percentile(times, 0.5), p99=percentile(times, 0.99))
        return Sample(float(rate.group(1)), int(count.group(1)), used, latency, wall)

    def copy(self, cell, side, seconds, meanwhile):
        number = self.number(cell, side, seconds, 1)
        command = self.client(side) + [self.tool('psql'), '-Xq', '-v', 'ON_ERROR_STOP=1']
        for _ in range(number):
            if 'STDIN' in cell.options['copy']:
                command += ['-c', f"\\copy {cell.options['copy'][5:].replace('STDIN', repr(self.file))}"]
            else:
                command += ['-c', cell.options['copy']]
        _, wall, used = self.run(side, command, 60 + 10 * number, meanwhile, discard=True)
        self.rates[cell.name, side] = number / wall
        megabytes = number * self.bytes / 1e6
        return Sample(megabytes / wall, megabytes, used, {}, wall)


class Redis(Program):
    """Redis with its own benchmark: single-threaded, epoll on both sides."""
    needs = ('redis-server', 'redis-benchmark')
    cells = tuple(
        Cell(f'redis-{test}-{name}', f'redis-benchmark -t {test} -c {clients} -P {pipeline}', 'req/s', clients,
             {'test': test, 'clients': clients, 'pipeline': pipeline})
        for name, clients, pipeline in (('c1', 1, 1), ('c50', 50, 1), ('c50-P16', 50, 16)) for test in ('get', 'set'))

    def start_server(self, side):
        command = ['redis-server', '--port', '0', '--unixsocket', self.path[side], '--save', '', '--appendonly', 'no',
                   '--dir', os.path.dirname(self.path[side])]
        return self.launch(side, command, lambda: self.listens(side))

    def measure(self, cell, side, seconds, meanwhile=None):
        number = self.number(cell, side, seconds, 20_000)
        command = ['redis-benchmark', '-s', self.path[side], '-t', cell.options['test'], '-c',
                   str(cell.options['clients']), '-P', str(cell.options['pipeline']), '-n', str(number), '--csv']
        output, wall, used = self.run(side, command, seconds * 10 + 60, meanwhile)
        rows = [[field.strip('"') for field in line.split('","')] for line in output.splitlines() if line[:1] == '"']
        if len(rows) != 2:
            raise Failure(f'redis-benchmark: {output[-2000:]}')
        row = dict(zip(rows[0], rows[1]))
        rate = float(row['rps'])
        self.rates[cell.name, side] = rate
        latency = {name: float(row[f'{name}_latency_ms']) * 1000 for name in ('p50', 'p95', 'p99') }
        latency['average'] = float(row['avg_latency_ms']) * 1000
        return Sample(rate, number, used, latency, wall)


class Memcached(Program):
    """memcached with the load generator of libmemcached, each of whose threads has a connection."""
    needs = ('memcached', 'memcslap', 'memcflush')
    cells = tuple(
        Cell(f'memcached-{test}-c{clients}', f'memcslap --test={test} --concurrency={clients}', 'req/s', clients,
             {'test': test, 'clients': clients})
        for clients in (1, 8) for test in ('get', 'set'))

    def start_server(self, side):
        command = ['memcached', '-s', self.path[side], '-m', '1000', '-t', '2', '-U', '0']
        return self.launch(side, command, lambda: self.listens(side))

    def measure(self, cell, side, seconds, meanwhile=None):
        clients, test = cell.options['clients'], cell.options['test']
        number = max(100, self.number(cell, side, seconds, 10_000) // clients)  # for each thread
        self.processes.run(['memcflush', f'--servers={self.path[side]}'], 20)  # of the keys of the last run
        command = ['memcslap', f'--servers={self.path[side]}', f'--test={test}', f'--concurrency={clients}',
                   f'--execute-number={number}']
        output, wall, used = self.run(side, command, seconds * 10 + 60, meanwhile)
        line = re.search(rf'^Time to {test} +(\d+) keys by +\d+ threads: +([0-9.]+) seconds', output, re.M)
        # One key in many comes twice, and counts once.
        if not line or int(line.group(1)) < 0.99 * number * clients:
            raise Failure(f'memcslap: {output[-2000:]}')
        rate = number * clients / float(line.group(2))
        self.rates[cell.name, side] = rate
        # Before it gets the keys it sets them; the processor times are for all of that.
        loaded = re.search(r'^Time to set +(\d+) keys: ', output, re.M)
        operations = number * clients + (int(loaded.group(1)) if loaded else 0)
        return Sample(rate, operations, used, {}, wall)


class Nginx(Program):
    """wrk over TCP to an nginx that asks another one over a Unix socket: the first is the client, the second the
    server; the processor time of wrk is not counted."""
    needs = ('nginx', 'wrk')
    cells = tuple(
        Cell(f'nginx-{name}', f'nginx in front of nginx, {what}, wrk with {clients} connections', 'req/s',
             connections, {'path': path, 'clients': clients})
        for name, what, path, clients, connections in (
            ('small-c1', '20 bytes', '/small', 1, 1), ('small-c16', '20 bytes', '/small', 16, None),
            ('64k-c8', '64 kB', '/64k', 8, None), ('1m-c4', '1 MB', '/1m', 4, None),
            ('single-c8', '20 bytes, a connection for each request', '/single/small', 8, None)))

    def __init__(self, processes, libraries, names):
        super().__init__(processes, libraries, names)
        self.fronts = {}
        self.ports = {}

    @classmethod
    def missing(cls):
        return [name for name in cls.needs if not shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin')]

    def configure(self, side, name, http):
        folder = os.path.dirname(self.path[side])
        temporary = ' '.join(f'{kind}_temp_path {folder}/{name}.{kind};'
                             for kind in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
        path = os.path.join(folder, name + '.conf')
        with open(path, 'w', encoding='ascii') as file:
            file.write(f'daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log;\n'
                       'events { worker_connections 200; use epoll; }\n'
                       'http { access_log off; keepalive_requests 100000000; server_tokens off; '
                       f'{temporary}\n{http}\n}}\n')
        return ['nginx', '-c', path, '-e', os.path.join(folder, name + '.log')]

    def start(self):
        self.files = self.processes.folder('files')
        for name, size in (('64k', 65536), ('1m', 1 << 20)):
            with open(os.path.join(self.files, name), 'wb') as file:
                file.write(os.urandom(size))
        os.environ['PATH'] += ':/usr/sbin'
        super().start()

    def start_server(self, side):
        path = self.path[side]
        upstream = self.launch(side, self.configure(side, 'up', f"""server {{
            listen unix:{path}; root {self.files}; sendfile on;
            location /small {{ return 200 "twenty bytes of text"; }} }}"""), lambda: self.listens(side))
        for _ in range(5):  # the port may have been taken meanwhile
            port = random.randrange(20000, 32000)
            try:
                self.fronts[side] = self.launch(side, self.configure(side, 'front', f"""proxy_http_version 1.1;
                    proxy_set_header Connection ""; proxy_max_temp_file_size 0;
                    upstream up {{ server unix:{path}; keepalive 64; keepalive_requests 100000000; }}
                    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; }}
                    location /single/ {{ proxy_set_header Connection close; proxy_pass http://unix:{path}:/; }} }}"""),
                    lambda: self.answers(port))
                break
            except Failure:
                continue
        else:
            raise Failure('the nginx in front does not start')
        self.ports[side] = port
        return upstream

    @staticmethod
    def answers(port):
        try:
            with socket.create_connection(('127.0.0.1', port), 2) as client:
                client.sendall(b'GET /small HTTP/1.0\r\n\r\n')
                return client.recv(100).startswith(b'HTTP/1.1 200')
        except OSError:
            return False

    def stop(self):
        for process in self.fronts.values():
            self.processes.stop(process)
        self.fronts = {}
        super().stop()

    def client_pids(self, side):
        return [self.fronts[side].pid]

    def measure(self, cell, side, seconds, meanwhile=None):
        before = processor_seconds(self.client_pids(side))
        output, wall, _ = self.processes.run(
            ['wrk', '-t', '1', '-c', str(cell.options['clients']), '-d', str(max(1, round(seconds))), '--latency',
             f'http://127.0.0.1:{self.ports[side]}{cell.options["path"]}'], seconds + 30, meanwhile=meanwhile)
        used = processor_seconds(self.client_pids(side)) - before
        rate = re.search(r'^Requests/sec: +([0-9.]+)', output, re.M)
        count = re.search(r'^ +(\d+) requests in ', output, re.M)
        if not rate or not count or 'Non-2xx' in output or 'Socket errors' in output:
            raise Failure(f'wrk: {output[-2000:]}')
        factors = {'us': 1, 'ms': 1000, 's': 1e6}
        latency = {f'p{part}': float(value) * factors[unit] for part, value, unit in
                   re.findall(r'^ +(50|90|99)% +([0-9.]+)(us|ms|s)$', output, re.M)}
        return Sample(float(rate.group(1)), int(count.group(1)), used, latency, wall)


PROGRAMS = (Postgres, Redis, Memcached, Nginx)
