#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whatever keeps the agent from starting: the program runs as without the shim,
and one line on stderr names cause and remedy."""
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.environ["top_builddir"] + "/tests/it"
PRELOAD = os.environ["PAGERD_PRELOAD"]
PROGRAM = ["/bin/sh", "-c", "echo out; exit 7"]
failed = False


def environment(env=None, fake=False):
    full = {"PATH": os.environ["PATH"], "PAGERD_PRELOAD": PRELOAD}
    if not fake:
        full["LD_PRELOAD"] = PRELOAD
    full.update(env or {})
    return full


def run_paused(env, seconds):
    """As run(), but stopped for a while soon after its start; and how long it took."""
    began = time.monotonic()
    with subprocess.Popen(PROGRAM, env=environment(env), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        time.sleep(0.5)
        program.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        program.send_signal(signal.SIGCONT)
        out, err = program.communicate(timeout=30)
    done = subprocess.CompletedProcess(PROGRAM, program.returncode, out, err)
    return done, time.monotonic() - began


def run(env=None, fake=False, before=None, argv=None):
    full = environment(env, fake)
    return subprocess.run(([HERE + "/fake-run"] if fake else []) + (argv or PROGRAM), env=full,
                          preexec_fn=before, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=30)


def expect(name, done, pattern):
    """pattern None: nothing may be said."""
    global failed
    lines = done.stderr.splitlines()
    right = done.stdout == "out\n" and done.returncode == 7
    if pattern is None:
        right = right and not lines
    else:
        right = right and len(lines) == 1 and re.fullmatch(
            r"pagerd: \S+ runs unmanaged: " + pattern, lines[0])
    print(("ok      " if right else "FAILED  ") + name)
    if not right:
        failed = True
        print(f"  status {done.returncode}, stdout {done.stdout!r}, stderr {done.stderr!r}\n"
              f"  expected: {pattern}")


def daemon(path, answer):
    """A daemon in a child that accepts one connection and does answer(connection)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    pid = os.fork()
    if pid == 0:
        conn, _ = listener.accept()
        answer(conn)
        os._exit(0)
    listener.close()
    return pid


def limited(limits, uid=None):
    def before():
        for what, value in limits:
            resource.setrlimit(what, (value, value))
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
    return before


with tempfile.TemporaryDirectory() as tmp:
    os.chmod(tmp, 0o755)
    sock = tmp + "/sock"

    expect("no PAGERD_SOCKET", run(), None)
    expect("PAGERD_SOCKET is empty", run({"PAGERD_SOCKET": ""}), None)
    expect("nobody at the socket", run({"PAGERD_SOCKET": sock}),
           r"nobody is at the socket .*/sock; start pagerd .*")
    expect("nobody, quietly", run({"PAGERD_SOCKET": sock, "PAGERD_OPTIONAL_QUIET": "1"}), None)
    expect("a path too long", run({"PAGERD_SOCKET": "/" + 120 * "x"}), r".* longer than 107 .*; .*")
    open(tmp + "/file", "w").close()
    expect("a file that is no socket", run({"PAGERD_SOCKET": tmp + "/file"}), r"nobody is at .*; .*")

    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.bind(tmp + "/stream")
    stream.listen()
    expect("a socket of another kind", run({"PAGERD_SOCKET": tmp + "/stream"}),
           r".*/stream is not pagerd's socket; .*")

    pid = daemon(tmp + "/closes", lambda conn: conn.recv(64))
    expect("a daemon that hangs up", run({"PAGERD_SOCKET": tmp + "/closes"}),
           r"the daemon at .*/closes closed the connection .*; see .*")
    os.waitpid(pid, 0)

    pid = daemon(tmp + "/talks", lambda conn: conn.recv(64) and conn.send(b"what?"))
    expect("a daemon of another protocol", run({"PAGERD_SOCKET": tmp + "/talks"}),
           r"the daemon at .*/talks speaks another protocol; .*")
    os.waitpid(pid, 0)

    pid = daemon(tmp + "/silent", lambda conn: (conn.recv(64), conn.recv(64)))
    # A pause of the whole machine is not the daemon's: it counts as one of many short waits.
    done, took = run_paused({"PAGERD_SOCKET": tmp + "/silent"}, 1)
    if not 5.5 < took < 8:
        failed = True
        print(f"FAILED  5 s without a pause of 1 s took {took:.1f} s")
    expect("a daemon that says nothing", done,
           r"the daemon at .*/silent did not answer within 5 s \(the daemon's offer\); .*")
    os.waitpid(pid, 0)

    if os.getuid() != 0:
        print("skipped: limits, and another user's daemon (needs root)")
        sys.exit(1 if failed else 0)

    # A program of uid 65534 must reach the library.
    readable = subprocess.run(["test", "-r", PRELOAD],
                              preexec_fn=limited([], 65534)).returncode == 0
    # The limit is set by a shell that runs managed, for the program that replaces it.
    exec_program = "exec /bin/sh -c 'echo out; exit 7'"
    expect("ulimit -v", run(fake=True, argv=["/bin/sh", "-c", "ulimit -v 12000; " + exec_program]),
           r"the address space limit leaves no room .*; raise `ulimit -v`")
    if readable:
        pid = os.fork()
        if pid == 0:
            os.setgid(65533)
            os.setuid(65533)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(f"/tmp/pagerd-other-{os.getppid()}.sock")
            os.chmod(f"/tmp/pagerd-other-{os.getppid()}.sock", 0o666)
            listener.listen()
            listener.accept()[0].recv(64)
            os._exit(0)
        other_path = f"/tmp/pagerd-other-{os.getpid()}.sock"
        while not os.path.exists(other_path) or not os.access(other_path, os.W_OK):
            os.sched_yield()
        expect("another user's daemon",
               run({"PAGERD_SOCKET": other_path}, before=limited([], 65534)),
               r"the daemon at .* is another user's.*; .*")
        os.waitpid(pid, 0)
        os.unlink(other_path)
        expect("ulimit -u",
               run(fake=True, before=limited([(resource.RLIMIT_NPROC, 1)]),
                   argv=["setpriv", "--reuid=65534", "--clear-groups"] + PROGRAM),
               r"the process limit leaves no room .*; raise `ulimit -u` .*")
        expect("a user without privilege is managed",
               run(fake=True, argv=["setpriv", "--reuid=65534", "--clear-groups"] + PROGRAM), None)
    else:
        print("skipped: ulimit -u, another user's daemon (uid 65534 cannot read the library)")

sys.exit(1 if failed else 0)
