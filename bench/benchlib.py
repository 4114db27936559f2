# SPDX-License-Identifier: Apache-2.0
"""What the benches share: the machine's state, the two sides, and the ratios.

A bench runs pagerd and its rival in turns and prints ratios of the two; single
figures of one side say little on a machine that does other work too.  Whatever it
changes on the machine (zram, swap, cgroup, idle policy) is undone at the end, after
an error and after SIGINT, SIGTERM or SIGHUP too: everything is entered into one
ExitStack.
"""
import argparse
import contextlib
import json
import os
import pathlib
import platform
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
IDLE_PARAMETER = pathlib.Path('/sys/module/haltpoll/parameters/guest_halt_poll_ns')


class Skip(Exception):
    """What is needed is not here: the sentence says what."""


class Failed(Exception):
    """A wrong byte, or a program that ended: not a matter of time."""


def note(text):
    print(f'# {text}', flush=True)


def read_text(path, default=None):
    try:
        return pathlib.Path(path).read_text(encoding='ascii', errors='replace').strip()
    except OSError:
        return default


def write_text(path, text):
    with open(path, 'w', encoding='ascii') as f:
        f.write(text)


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def uninterrupted():
    """What is made here is entered for undoing before a signal can end the bench."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- placement ----

class Placement:
    """Which cpu the program runs on, and which the daemon (its rival has no daemon)."""

    def __init__(self, name, program, daemon):
        self.name, self.program, self.daemon = name, program, daemon

    def __str__(self):
        if self.program == self.daemon:
            return f'{self.name}: program, agent and daemon on cpu {self.program}'
        return f'{self.name}: program and agent on cpu {self.program}, daemon on cpu {self.daemon}'


def placements(wanted, cpu):
    cpus = sorted(os.sched_getaffinity(0))
    if cpu is None:
        cpu = cpus[-1]
    elif cpu not in cpus:
        raise Skip(f'cpu {cpu} is not among those that may be used: {cpus}')
    others = [c for c in cpus if c != cpu]
    if others:
        os.sched_setaffinity(0, others)  # this script disturbs neither side
    out = []
    if wanted in ('one-core', 'both'):
        out.append(Placement('one-core', cpu, cpu))
    if wanted in ('two-cores', 'both'):
        if others:
            out.append(Placement('two-cores', cpu, others[0]))
        else:
            note('two-cores is left out: there is one cpu only')
    if not out:
        raise Skip('there is one cpu only')
    return out


def start(argv, cpu, nice=0, cgroup=None, **kwargs):
    """A child on one cpu, and in a memory cgroup where one is given.  Called uninterrupted."""
    def before_exec():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        if cgroup:
            cgroup.enter()
        os.sched_setaffinity(0, {cpu})
        if nice:
            os.setpriority(os.PRIO_PROCESS, 0, nice)

    return subprocess.Popen(argv, preexec_fn=before_exec, **kwargs)


# ---- the machine as it is ----

def state_machine():
    cpuidle = pathlib.Path('/sys/devices/system/cpu/cpuidle')
    halt_poll = read_text(IDLE_PARAMETER)
    thp = read_text('/sys/kernel/mm/transparent_hugepage/enabled', '')
    note(f'kernel {platform.system()} {platform.release()} {platform.machine()}, '
         f'{os.cpu_count()} cpus, transparent huge pages {thp}, '
         f'swappiness {read_text("/proc/sys/vm/swappiness", "?")}, '
         f'page-cluster {read_text("/proc/sys/vm/page-cluster", "?")}')
    note(f'idle policy: cpuidle driver {read_text(cpuidle / "current_driver", "none")}, '
         f'governor {read_text(cpuidle / "current_governor", "none")}, guest_halt_poll_ns '
         f'{"not there" if halt_poll is None else halt_poll}')
    load = os.getloadavg()[0]
    if load > 0.3:
        note(f'the machine is not quiet: load average {load:.2f}')


@contextlib.contextmanager
def halt_poll_ns(value):
    """The idle policy of a guest with cpuidle-haltpoll, for the time of the bench."""
    before = read_text(IDLE_PARAMETER)
    if before is None:
        raise Skip('there is no guest_halt_poll_ns: this is no guest with cpuidle-haltpoll')
    need_root('to change the idle policy')
    try:
        write_text(IDLE_PARAMETER, str(value))
        yield
    finally:
        write_text(IDLE_PARAMETER, before)


@contextlib.contextmanager
def nice_session(value):
    """Where sessions are scheduled as groups, a nice value counts within its session only."""
    autogroup = pathlib.Path('/proc/self/autogroup')
    before = (read_text(autogroup) or '').split()
    try:
        if before:
            write_text(autogroup, str(value))
        yield
    finally:
        if before:
            write_text(autogroup, before[-1])


def need_root(why):
    if os.geteuid() != 0:
        raise Skip(f'root is needed {why}')


# ---- zram as swap ----

ZRAM_CONTROL = pathlib.Path('/sys/class/zram-control')


def _quiet(*argv):
    r = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if r.returncode:
        raise Skip(f'`{" ".join(map(str, argv))}` failed: {r.stderr.strip()}')


def _undo(*argv):
    """In a session of its own: a second Ctrl-C is not for it."""
    subprocess.run(argv, check=False, start_new_session=True)


def _remove_zram(number):
    for _ in range(50):  # whoever probes new devices (udev) may have it open for a moment
        try:
            write_text(f'/sys/block/zram{number}/reset', '1')
            write_text(ZRAM_CONTROL / 'hot_remove', str(number))
            return
        except OSError as e:
            error = e
            time.sleep(0.1)
    note(f'/dev/zram{number} could not be removed: {error.strerror}')


@contextlib.contextmanager
def zram_swap(size_bytes):
    """A new zram device with lz4, as the swap that is used before any other."""
    need_root('for zram')
    with contextlib.ExitStack() as undo:
        if not ZRAM_CONTROL.exists():
            if not shutil.which('modprobe'):
                raise Skip('this kernel has no zram')
            _quiet('modprobe', 'zram', 'num_devices=0')
            undo.callback(_undo, 'modprobe', '-r', 'zram')
        with uninterrupted():
            number = int(read_text(ZRAM_CONTROL / 'hot_add'))  # reading it adds a device
            undo.callback(_remove_zram, number)
        block = pathlib.Path(f'/sys/block/zram{number}')
        if 'lz4' not in re.findall(r'[\w-]+', read_text(block / 'comp_algorithm', '')):
            raise Skip('the zram of this kernel has no lz4')
        write_text(block / 'comp_algorithm', 'lz4')
        write_text(block / 'disksize', str(size_bytes))
        device = pathlib.Path(f'/dev/zram{number}')
        for _ in range(50):
            if device.exists():
                break
            time.sleep(0.1)
        _quiet('mkswap', str(device))
        with uninterrupted():
            _quiet('swapon', '-p', '32767', str(device))
            undo.callback(_undo, 'swapoff', str(device))
        note(f'rival: swap on {device}, lz4, {size_bytes // MIB} MiB, priority 32767')
        yield block


# ---- a memory cgroup, of either version ----

def _memory_hierarchy():
    """(version, directory) of the mounted hierarchy that has the memory controller."""
    v2 = None
    for line in (read_text('/proc/self/mounts', '')).splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == 'cgroup' and 'memory' in options.split(','):
            return 1, pathlib.Path(where)
        if kind == 'cgroup2':
            v2 = pathlib.Path(where)
    if v2 and 'memory' in (read_text(v2 / 'cgroup.controllers') or '').split():
        return 2, v2
    raise Skip('no mounted cgroup hierarchy has the memory controller')


class MemoryGroup:
    def __init__(self, version, path):
        self.version, self.path = version, path

    def enter(self):
        write_text(self.path / 'cgroup.procs', str(os.getpid()))

    def limit(self, size_bytes):
        """Of memory; as much swap as there is."""
        if self.version == 1:
            write_text(self.path / 'memory.limit_in_bytes', str(size_bytes))
        else:
            write_text(self.path / 'memory.max', str(size_bytes))

    def stat(self):
        lines = read_text(self.path / 'memory.stat', '').splitlines()
        return {key: int(value) for key, value in (line.split() for line in lines)}

    def remove(self):
        for _ in range(100):  # who has ended is taken out of it a moment later
            try:
                self.path.rmdir()
                return
            except OSError as e:
                error = e
                time.sleep(0.05)
        note(f'{self.path} could not be removed: {error.strerror}')


@contextlib.contextmanager
def memory_group():
    need_root('for a memory cgroup')
    version, root = _memory_hierarchy()
    with contextlib.ExitStack() as undo:
        if version == 2 and 'memory' not in read_text(root / 'cgroup.subtree_control', '').split():
            with uninterrupted():
                try:
                    write_text(root / 'cgroup.subtree_control', '+memory')
                except OSError as e:
                    raise Skip(f'the memory controller cannot be given to a cgroup: {e}') from e
                undo.callback(write_text, root / 'cgroup.subtree_control', '-memory')
        group = MemoryGroup(version, root / f'pagerd-bench-{os.getpid()}')
        with uninterrupted():
            try:
                group.path.mkdir()
            except OSError as e:
                raise Skip(f'no memory cgroup can be made: {e}') from e
            undo.callback(group.remove)
        yield group


# ---- pagerd ----

class Build:
    """The programs that are measured, in a build tree."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory).resolve()
        self.pagerd = pathlib.Path(os.environ.get('PAGERD', self.directory / 'pagerd'))
        self.pagerctl = pathlib.Path(os.environ.get('PAGERCTL', self.directory / 'pagerctl'))
        for program in (self.pagerd, self.pagerctl):
            if not program.exists():
                raise Skip(f'there is no {program}: build it, and run this in the build directory '
                           'or say --build=DIR')

    def program(self, name):
        path = self.directory / 'bench' / name
        if not path.exists():
            raise Skip(f'there is no {path}: run `make` in {self.directory}')
        return str(path)


class Daemon:
    """A pagerd of the bench's own."""

    def __init__(self, build, placement, nice, options=()):
        self.build, self.placement, self.nice, self.options = build, placement, nice, list(options)

    def __enter__(self):
        self.process = self.log = None
        try:
            with uninterrupted():
                self.directory = tempfile.mkdtemp(prefix='pagerd-bench-')
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def begin(self):
        self.socket = os.path.join(self.directory, 'socket')
        read_end, write_end = os.pipe()
        with uninterrupted():
            self.log = open(os.path.join(self.directory, 'log'), 'w+', encoding='utf-8')
            self.process = start([str(self.build.pagerd), f'--socket={self.socket}',
                                  '--log=warning', f'--ready-fd={write_end}', *self.options],
                                 self.placement.daemon, self.nice, pass_fds=[write_end],
                                 stderr=self.log, stdin=subprocess.DEVNULL)
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            word = ready.read().strip()
        if word != 'ok':
            raise Skip(f'pagerd does not start: {word}')

    def __exit__(self, *_):
        if self.process:
            end_process(self.process)
        if self.log:
            self.log.seek(0)
            for line in self.log.read().splitlines():
                note(f'pagerd said: {line}')
            self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, *words):
        """Returns the JSON answer of a pagerctl command, and the time from asking to having it."""
        began = time.monotonic_ns()
        r = subprocess.run([str(self.build.pagerctl), words[0], f'--socket={self.socket}', '--json',
                            *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        elapsed = time.monotonic_ns() - began
        if r.returncode:
            raise Failed(f'pagerctl {" ".join(words)}: {r.stderr.strip()}')
        return json.loads(r.stdout), elapsed

    def run_words(self, limit_bytes, *options):
        return [str(self.build.pagerctl), 'run', f'--socket={self.socket}', f'--limit={limit_bytes}',
                *options, '--']


def children_of(pid):
    return [int(c) for c in (read_text(f'/proc/{pid}/task/{pid}/children') or '').split()]


def busy_ns(pids):
    """Processor time that these processes have had."""
    return sum(int((read_text(f'/proc/{pid}/schedstat') or '0').split()[0]) for pid in pids)


def end_process(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Program:
    """A program of the bench: a line in, a line out.

    It is ended by the end of its input, never by a signal to pagerctl alone.
    """

    def __init__(self, argv, placement, nice, cgroup=None):
        self.argv, self.placement, self.nice, self.cgroup = argv, placement, nice, cgroup

    def __enter__(self):
        self.process = None
        try:
            with uninterrupted():
                self.process = start(self.argv, self.placement.program, self.nice, self.cgroup,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                     bufsize=1)
            self.pid = self.hear('pid')['pid']
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if not self.process:
            return
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            end_process(self.process)
        self.process.stdout.close()

    def hear(self, what):
        """An answer is `WHAT key=number...`."""
        line = self.process.stdout.readline()
        words = line.split()
        if not words or words[0] != what:
            raise Failed(f'the program was asked for {what} and said {line.strip()!r}')
        return {key: int(value) for key, value in (word.split('=') for word in words[1:])}

    def ask(self, what):
        self.process.stdin.write(f'{what}\n')
        self.process.stdin.flush()
        return self.hear(what)


# ---- ratios ----

def interval(values, statistic=statistics.median, rounds=2000):
    """95% interval of the statistic by bootstrap over the rounds (the same draw every time)."""
    draw = random.Random(1)
    found = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(rounds))
    return found[int(0.025 * rounds)], found[int(0.975 * rounds)]


class Target:
    def __init__(self, op, value, whole_interval=False):
        self.op, self.value, self.whole_interval = op, value, whole_interval

    def verdict(self, middle, lo, hi):
        if self.op in ('>=', '>'):
            figure = lo if self.whole_interval else middle
            met = figure >= self.value if self.op == '>=' else figure > self.value
        else:
            figure = hi if self.whole_interval else middle
            met = figure <= self.value if self.op == '<=' else figure < self.value
        return f'target {self.op} {self.value:g} {"ok" if met else "missed"}'


def print_ratio(name, values, target=None, statistic=statistics.median):
    """values: one for each round (whatever `statistic` takes a list of)."""
    middle = statistic(values)
    lo, hi = interval(values, statistic) if len(values) > 1 else (middle, middle)
    line = f'ratio {name} {middle:.3f} ({lo:.3f}..{hi:.3f})'
    if target:
        line += ' ' + target.verdict(middle, lo, hi)
    print(line, flush=True)


def print_figures(name, unit, **sides):
    """The medians that a ratio comes from."""
    words = ', '.join(f'{side.replace("_", " ")} {statistics.median(values):.2f}'
                      for side, values in sides.items())
    note(f'{name}: {words} {unit}')


# ---- a bench's main ----

def arguments(description, rounds, placement='both'):
    p = argparse.ArgumentParser(description=description,
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument('--build', default='.', metavar='DIR', help='the build directory')
    p.add_argument('--rounds', type=int, default=rounds, help='repetitions of each side')
    p.add_argument('--placement', choices=('one-core', 'two-cores', 'both'), default=placement)
    p.add_argument('--cpu', type=int, help='of the program; the last one by default')
    p.add_argument('--nice', type=int, default=0,
                   help='of both sides alike, against other work on the machine')
    p.add_argument('--guest-halt-poll-ns', type=int, metavar='NS',
                   help='set this idle policy for the time of the bench')
    return p


def _stop(number, _):
    for s in STOPPING:
        signal.signal(s, signal.SIG_IGN)  # what is being undone is undone to its end
    raise SystemExit(128 + number)


def main(bench, parser):
    """Runs bench(args, build, places, undo) and exits: 77 when something needed is not here."""
    args = parser.parse_args()
    for s in STOPPING:
        signal.signal(s, _stop)
    try:
        with contextlib.ExitStack() as undo:
            build = Build(args.build)
            places = placements(args.placement, args.cpu)
            if args.guest_halt_poll_ns is not None:
                undo.enter_context(halt_poll_ns(args.guest_halt_poll_ns))
            state_machine()
            if args.nice:
                undo.enter_context(nice_session(args.nice))
                note(f'both sides, and this session, run at nice {args.nice}')
            bench(args, build, places, undo)
    except Skip as e:
        print(f'skipped: {e}')
        sys.exit(77)
    except Failed as e:
        print(f'FAIL: {e}')
        sys.exit(1)
