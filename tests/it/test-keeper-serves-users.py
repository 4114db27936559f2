#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
A system daemon serves every user, each by a worker of that user's id that has
nothing of root's; a worker's death costs its own programs only; a second
daemon is refused, and what a killed daemon has left is replaced.  A worker
that nobody needs any more goes, with its swap file, and comes again.
"""
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time

NOBODY = 12321  # any id: who has no account can be served too
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
PAGERCTL = os.environ["PAGERCTL"]
PROGRAM = os.path.join(os.path.dirname(PAGERCTL), "examples", "fill-and-verify")
failed = []


def expect(ok, what):
    if not ok:
        failed.append(what)
        print("FAIL:", what)


class Daemon:
    def __init__(self, path, log, options=(), env=None):
        ready, write_end = os.pipe()
        self.proc = subprocess.Popen([os.environ["PAGERD"], f"--socket={path}", "--ram=256M",
                                      f"--ready-fd={write_end}", *options],
                                     pass_fds=[write_end], stderr=log,
                                     env={**os.environ, **(env or {})})
        os.close(write_end)
        self.word = os.read(ready, 4096).decode().strip()
        os.close(ready)

    def workers(self):
        """uid -> pid of its worker"""
        with open(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children", encoding="ascii") as f:
            pids = f.read().split()
        workers = {}
        for pid in pids:
            try:
                workers[uid_of(pid)] = int(pid)
            except (ProcessLookupError, FileNotFoundError):
                pass  # it was reaped meanwhile
        return workers

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        expect(self.proc.wait(20) == 0, "the daemon ends orderly")


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def uid_of(pid):
    return int(status_of(pid)["Uid"].split()[0])


def run(*argv, who=(), **kwargs):
    return subprocess.run([*who, PAGERCTL, *argv], stdin=subprocess.DEVNULL, timeout=100,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **kwargs)


def run_program(path, who=(), options=(), mib="32"):
    p = run("run", "--limit=16M", f"--socket={path}", *options, "--", PROGRAM, mib, who=who)
    expect(p.returncode == 0 and b" 0 wrong words" in p.stdout, f"the program runs well: {p}")
    return p


def settles(get, want, what):
    deadline = time.monotonic() + 10
    while (got := get()) != want and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
    expect(got == want, f"{what}: {got}, not {want}")


def every_user_has_a_worker_of_his_own(path, daemon, tmp):
    stats = os.path.join(tmp, "everyone", "stats.json")
    run_program(path, who=AS_NOBODY, options=[f"--stats={stats}"])
    with open(stats, encoding="ascii") as f:
        expect(json.load(f)["pgsteal"] > 0, "pages of an unprivileged program are moved")
    run_program(path)
    workers = daemon.workers()
    expect(sorted(workers) == [0, NOBODY], f"one worker a user: {workers}")
    status = status_of(workers[NOBODY])
    expect(status["Uid"].split() == [str(NOBODY)] * 4, "the worker has its user's id only")
    expect(status["Gid"].split() == [str(NOBODY)] * 4, "and group")
    expect(not status["Groups"].split(), "and no further groups")
    expect(int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0, "and no capability")
    expect(status["NoNewPrivs"] == "1", "and gains none")
    links = [os.readlink(f"/proc/{workers[NOBODY]}/fd/{fd}") for fd in
             os.listdir(f"/proc/{workers[NOBODY]}/fd")]
    expect("/dev/userfaultfd" not in links, "and not the device")
    for who, uid in ((AS_NOBODY, NOBODY), ((), 0)):
        p = run("status", "--json", f"--socket={path}", who=who)
        expect(p.returncode == 0 and json.loads(p.stdout).get("uid") == uid,
               f"each user asks his own worker: {p}")


def a_worker_s_death_is_its_own(path, daemon):
    running = subprocess.Popen([PAGERCTL, "run", "--limit=16M", f"--socket={path}", "--", PROGRAM,
                                "32", "200"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    settles(lambda: len(json.loads(run("status", "--json", f"--socket={path}").stdout)["clients"]), 1,
            "root's program is attached")
    before = daemon.workers()
    os.kill(before[NOBODY], signal.SIGKILL)
    settles(lambda: sorted(daemon.workers()), [0], "the dead worker is reaped")
    run_program(path, who=AS_NOBODY)
    expect(daemon.workers().get(NOBODY) not in (None, before[NOBODY]), "there is a new one")
    expect(running.poll() is None, "the other user's program runs on")
    running.terminate()
    expect(running.wait(20) == -signal.SIGTERM, "until it is ended")
    running.stdout.close()


def a_second_daemon_is_refused(path, daemon, log):
    second = Daemon(path, subprocess.DEVNULL)
    expect("another pagerd answers at" in second.word, f"a second daemon is refused: {second.word}")
    expect(second.proc.wait(10) == 1, "with status 1")
    run_program(path)
    workers = daemon.workers()
    daemon.proc.kill()
    daemon.proc.wait()
    settles(lambda: [pid for pid in workers.values() if os.path.exists(f"/proc/{pid}")
                     and status_of(pid)["State"][0] not in "ZX"], [], "workers die with the keeper")
    expect(os.path.exists(path), "a killed daemon leaves its socket")
    third = Daemon(path, log)
    expect(third.word == "ok", f"which the next one replaces: {third.word}")
    run_program(path)
    third.stop()
    expect(not os.path.exists(path), "and takes away")


def swap_files(pid):
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return [link for link in links if link.startswith("/memfd:pagerd-") or "swap" in link]


def a_worker_without_work_goes(path, tmp):
    swap = os.path.join(tmp, "swap")
    with open(os.path.join(tmp, "idle-log"), "w+", encoding="utf-8") as log:
        daemon = Daemon(path, log, options=[f"--swap={swap}:16M"],
                        env={"PAGERD_FAILPOINTS": "keeper-idle-short"})
        expect(daemon.word == "ok", f"it starts: {daemon.word}")
        running = subprocess.Popen([PAGERCTL, "run", "--limit=16M", f"--socket={path}", "--", PROGRAM,
                                    "32", "200"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        settles(lambda: list(daemon.workers()), [0], "root's program has a worker")
        run_program(path, who=AS_NOBODY)
        settles(lambda: list(daemon.workers()), [0], "the other user's goes, as it has no more work")
        expect(running.poll() is None, "the one with work stays")
        running.terminate()
        running.wait(20)
        settles(daemon.workers, {}, "and goes when it has none")
        expect(not swap_files(daemon.proc.pid),
               f"nothing of them is left: {swap_files(daemon.proc.pid)}")
        for _ in range(30):  # some of them come just when the worker goes
            p = run("status", "--json", f"--socket={path}", who=AS_NOBODY)
            expect(p.returncode == 0, f"the next worker is there when it is needed: {p}")
        run_program(path, who=AS_NOBODY)
        daemon.stop()
        log.seek(0)
        text = log.read()
        expect("it had nothing to do" in text and "error" not in text, f"the log says so: {text}")


def main():
    if os.getuid() != 0:
        print("a system daemon takes root")
        return 77
    for program in (PAGERCTL, PROGRAM):
        if subprocess.run([*AS_NOBODY, "test", "-x", program], check=False).returncode:
            print("another user cannot reach", program)
            return 77
    with tempfile.TemporaryDirectory() as tmp, open(os.path.join(tmp, "log"), "wb") as log:
        os.chmod(tmp, 0o755)
        os.mkdir(os.path.join(tmp, "everyone"))
        os.chmod(os.path.join(tmp, "everyone"), 0o777)
        path = os.path.join(tmp, "sock")
        daemon = Daemon(path, log)
        if daemon.word != "ok":
            print("pagerd does not run here:", daemon.word)
            return 77
        try:
            every_user_has_a_worker_of_his_own(path, daemon, tmp)
            a_worker_s_death_is_its_own(path, daemon)
            a_second_daemon_is_refused(path, daemon, log)
            a_worker_without_work_goes(path, tmp)
        finally:
            if daemon.proc.poll() is None:
                daemon.proc.terminate()
                daemon.proc.wait()
        if failed:
            with open(log.name, encoding="utf-8") as f:
                print(f.read())
    return 1 if failed else 0


sys.exit(main())
