#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
`pagerctl run` stands in for its program: who waits for pagerctl, signals it,
stops it or reads its pipes gets what the program itself would give him, and
the program starts with what pagerctl was started with.
"""
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile

PAGERCTL = os.environ["PAGERCTL"]
NEEDED = ("pgfault pgmajfault pgscan pgsteal pgmigrate_success pgmigrate_fail resident_peak_bytes "
          "limit_bytes bytes_by_node fault_latency_ns").split()
failed = []


def expect(ok, what):
    if not ok:
        failed.append(what)
        print("FAIL:", what)


def paged(*program, options=()):
    return [PAGERCTL, "run", "--limit=32M", *options, "--", *program]


def run(*program, options=(), **kwargs):
    return subprocess.run(paged(*program, options=options), stdin=subprocess.DEVNULL, timeout=60,
                          **kwargs)


def start(*program, **kwargs):
    """A program that has said 'ready'."""
    p = subprocess.Popen(paged(*program), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **kwargs)
    word = p.stdout.readline()
    expect(word == b"ready\n", f"{program} starts, and does not say {word!r}")
    return p


def sh(script):
    return "sh", "-c", script


def statuses():
    for status in (0, 1, 7, 124, 125, 126, 127, 128, 255):
        expect(run(*sh(f"exit {status}")).returncode == status, f"status {status} is passed on")
    for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE, signal.SIGALRM):
        got = run(*sh(f"kill -{int(sig)} $$")).returncode
        expect(got == -sig, f"death by {sig.name} is passed on, and is not {got}")


def exec_failures():
    with tempfile.TemporaryDirectory() as tmp:
        script = os.path.join(tmp, "script")
        with open(script, "w", encoding="ascii") as f:
            f.write("#!/none/such/interpreter\n")
        os.chmod(script, 0o755)
        p = run(script, stderr=subprocess.PIPE)
        expect(p.returncode == 127 and b"cannot execute" in p.stderr, f"no interpreter: {p}")


def signals():
    for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1,
                signal.SIGUSR2, signal.SIGALRM):
        p = start(*sh(f"trap 'kill $!; echo caught; exit 9' {int(sig)}; sleep 60 & echo ready; wait"))
        p.send_signal(sig)
        expect(p.stdout.readline() == b"caught\n", f"{sig.name} sent to pagerctl reaches the program")
        expect(p.wait(30) == 9, f"{sig.name}: status of the handler")
        p.stdout.close()
    p = start(*sh("trap '' HUP; trap 'kill $!; exit 5' USR1; sleep 60 & echo ready; wait"))
    p.send_signal(signal.SIGHUP)
    p.send_signal(signal.SIGUSR1)
    expect(p.wait(30) == 5, "a signal that the program ignores changes nothing")
    p.stdout.close()


def stopping():
    for sig in (signal.SIGTSTP, signal.SIGSTOP):
        p = start(*sh("trap 'kill $!; exit 6' USR1; echo ready; "
                      f"kill -{int(sig)} $$; sleep 60 & echo on; wait"), preexec_fn=os.setpgrp)
        _, status = os.waitpid(p.pid, os.WUNTRACED)
        expect(os.WIFSTOPPED(status) and os.WSTOPSIG(status) == sig,
               f"pagerctl stops by {sig.name} as its program did (status {status:#x})")
        p.send_signal(signal.SIGCONT)
        expect(p.stdout.readline() == b"on\n", f"after {sig.name} SIGCONT reaches the program")
        p.send_signal(signal.SIGUSR1)
        expect(p.wait(30) == 6, "it goes on as before")
        p.stdout.close()


PROBE = r"""
import os, signal, sys
print(sorted((int(fd), os.readlink("/proc/self/fd/" + fd).split(":")[0]) for fd in
      os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)))
status = dict(line.split(":\t") for line in open("/proc/self/status").read().splitlines())
print({k: status[k] for k in ("SigBlk", "SigIgn", "NoNewPrivs", "Umask")})
print(os.getpgid(0) == int(sys.argv[1]) or os.getpgid(0), os.getsid(0) == os.getsid(os.getppid()))
print(sorted((k, v) for k, v in os.environ.items() if not k.startswith("PAGERD") and
      k not in ("LD_PRELOAD", "_")))
print(os.getcwd(), sys.argv[0])
"""


def inheritance():
    def odd_start():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD})
        os.umask(0o37)

    spare = os.open("/dev/null", os.O_RDONLY)
    for fds in ((), (spare,)):
        kwargs = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "pass_fds": fds,
                  "preexec_fn": odd_start, "cwd": "/tmp", "restore_signals": False, "timeout": 60}
        probe = [sys.executable, "-c", PROBE, str(os.getpgid(0))]
        bare = subprocess.run(probe, check=False, **kwargs).stdout.decode().splitlines()
        ours = subprocess.run(paged(*probe), check=False, **kwargs).stdout.decode().splitlines()
        expect(len(bare) == 5 and bare == ours, f"the program starts alike:\n  {bare}\n  {ours}")
    os.close(spare)
    p = run(*sh("exit 4"), preexec_fn=odd_start, restore_signals=False)
    expect(p.returncode == 4, f"an ignored SIGCHLD does not cost the status: {p.returncode}")


def closed_standard_descriptors():
    for fds in ((0,), (0, 1), (0, 1, 2)):
        pid = os.fork()
        if pid == 0:
            for fd in fds:
                os.close(fd)
            os.execv(PAGERCTL, paged(*sh("exit 8")))
        _, status = os.waitpid(pid, 0)
        expect(os.waitstatus_to_exitcode(status) == 8, f"with descriptors {fds} closed: {status:#x}")


def pipes_and_leftovers():
    """The daemon must not keep the caller's pipes open, nor leave anything behind."""
    with tempfile.TemporaryDirectory() as runtime:
        os.chmod(runtime, 0o700)
        env = {**os.environ, "XDG_RUNTIME_DIR": runtime}
        stats = os.path.join(runtime, "stats.json")
        p = run(*sh("echo out; echo err >&2; ls -d $XDG_RUNTIME_DIR/pagerd-*"), env=env,
                options=[f"--stats={stats}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out = p.stdout.decode().splitlines()
        expect(p.returncode == 0 and out[0] == "out" and p.stderr == b"err\n", f"pipes end: {p}")
        expect(len(out) == 2, f"a private daemon was started: {out}")
        expect(os.listdir(runtime) == ["stats.json"], f"nothing is left: {os.listdir(runtime)}")
        with open(stats, encoding="ascii") as f:
            counters = json.load(f)
        missing = [name for name in NEEDED if name not in counters]
        expect(not missing, f"--stats has all counters, lacks {missing}")
        expect(counters.get("limit_bytes") == 32 << 20, "--stats has the limit")


def main():
    p = run("true", stderr=subprocess.PIPE)
    if p.returncode == 125 and os.getuid() != 0:
        print("pagerd does not run here:", p.stderr.decode().strip())
        return 77
    expect(p.returncode == 0 and p.stderr == b"", f"the first run: {p}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for test in (statuses, exec_failures, signals, stopping, inheritance,
                 closed_standard_descriptors, pipes_and_leftovers):
        print(test.__name__, flush=True)
        test()
    return 1 if failed else 0


sys.exit(main())
