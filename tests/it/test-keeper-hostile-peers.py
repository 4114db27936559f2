#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Whoever may connect to the socket may send anything: each wrong packet ends
that connection and nothing else, no descriptor stays open in the keeper, and
a peer that says nothing is closed after 5 s while others are served, of
whatever user they are.
"""
import array
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

MAGIC, VERSION = 0x31524750, 3
HELLO, OFFER, ATTACH = 1, 2, 3
ATTACH_BYTES = 8 + 4 + 4 + 32 + 8 + 16 + 16 + 16 + 16
PER_UID = 128  # CONN_MAX_PER_UID of src/keeper
ALL = 256  # CONN_MAX

failed = []


def expect(ok, what):
    if not ok:
        failed.append(what)
        print("FAIL:", what)


def head(kind, version=VERSION, magic=MAGIC):
    return struct.pack("<IHH", magic, version, kind)


def attach(group=b"\0" * 32, kind=ATTACH):
    body = head(kind) + struct.pack("<ii", os.getpid(), os.getpid()) + group
    return body + b"\0" * (ATTACH_BYTES - len(body))


def connect(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(10)
    s.connect(path)
    return s


def send(s, data, fds=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    s.sendmsg([data], rights)


def closed(s):
    """Does the other end close, without another word?"""
    try:
        return s.recv(65536) == b""
    except ConnectionResetError:
        return True
    except socket.timeout:
        return False


def offered(path):
    """A connection that has had its offer, and the offer's descriptors closed again."""
    s = connect(path)
    send(s, head(HELLO))
    data, fds, _, _ = socket.recv_fds(s, 65536, 4)
    for fd in fds:
        os.close(fd)
    _, _, kind, status = struct.unpack_from("<IHHi", data)
    expect(kind == OFFER and status == 0 and fds, f"HELLO is answered by an offer (status {status})")
    return s


def nr_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def settles(get, want, what):
    """The keeper closes its ends in its own time."""
    deadline = time.monotonic() + 5
    got = get()
    while got != want and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
        got = get()
    expect(got == want, f"{what}: {got}, not {want}")


def status(path):
    s = connect(path)
    send(s, b'{"cmd":"status"}')
    text = b""
    while not text.endswith(b"\n"):
        part = s.recv(65536)
        if not part:
            break
        text += part
    s.close()
    return text.endswith(b"\n") and json.loads(text).get("ok")


def answer(s):
    text = b""
    while not text.endswith(b"\n"):
        part = s.recv(65536)
        if not part:
            return None
        text += part
    return json.loads(text)


def control_requests(path):
    """What makes no sense is refused with a sentence, and the connection goes on."""
    s = connect(path)
    s.settimeout(10)
    send(s, b'{"cmd":"group","limit_bytes":33554432}')
    group = answer(s)["group"]
    target = f'"target":"{group}"'
    for request in (
        "", "null", "[]", "{", "{}", '{"cmd":5}', '{"cmd":"frobnicate"}', '{"cmd":"limit","cmd":"limit"}',
        '{"cmd":"limit"}', '{"cmd":"limit","target":5}', '{"cmd":"limit","target":""}',
        '{"cmd":"limit","target":"\\u0000"}', '{"cmd":"limit","target":"999999"}',
        '{"cmd":"limit",' + target + ',"limit_bytes":-1}',
        '{"cmd":"limit",' + target + ',"limit_bytes":4096}',
        '{"cmd":"limit",' + target + ',"limit_bytes":"64M"}',
        '{"cmd":"limit",' + target + ',"limit_bytes":1e9}',
        '{"cmd":"limit",' + target + ',"limit_bytes":9223372036854775808}',
        '{"cmd":"limit",' + target + ',"limit_bytes":null}',
        '{"cmd":"reclaim"}', '{"cmd":"reclaim","target":["1"]}', '{"cmd":"reclaim","target":"-1"}',
        '{"cmd":"reclaim",' + target + ',"bytes":-1}', '{"cmd":"reclaim",' + target + ',"bytes":true}',
        '{"cmd":"group"}', "x" * 60000, "[" * 60000,
    ):
        send(s, request.encode() or b" ")
        reply = answer(s)
        expect(reply and reply["ok"] is False and reply["error"], f"refused: {request[:60]}: {reply}")
    send(s, ('{"cmd":"limit",' + target + "}").encode())
    expect(answer(s)["limit_bytes"] == 32 << 20, "the limit is as it was")
    send(s, ('{"cmd":"reclaim",' + target + ',"bytes":9223372036854775807}').encode())
    reply = answer(s)
    expect(reply["ok"] and reply["moved_bytes"] == 0, f"a group without programs: {reply}")
    send(s, b'{"cmd":"clients"}')
    expect(answer(s)["clients"] == [], "no clients")
    s.close()


def unread_answers(path):
    """More answers than a socket holds, to a peer that reads them later: all of them come."""
    s = connect(path)
    s.settimeout(5)
    nr, text = 400, b""
    for _ in range(nr):
        send(s, b'{"cmd":"stat"}')
    select.select([], [], [], 0.5)
    try:
        while text.count(b"\n") < nr:
            part = s.recv(65536)
            if not part:
                break
            text += part
    except socket.timeout:
        pass
    got = text.count(b"\n")
    expect(got == nr, f"{nr} answers that were not read at once: {got} came, {len(text)} bytes")
    s.close()


def names_of_any_bytes(path, tmp):
    """A program's name is bytes; one that is no text spoils no answer."""
    program = os.path.join(os.fsencode(tmp), b"name\xe9")
    shutil.copy("/bin/sleep", program)
    env = dict(os.environ, LD_PRELOAD=os.environ["PAGERD_PRELOAD"], PAGERD_SOCKET=path)
    with subprocess.Popen([program, "60"], env=env) as job:
        deadline = time.monotonic() + 10
        clients = None
        while not clients and time.monotonic() < deadline:
            s = connect(path)
            send(s, b'{"cmd":"clients"}')
            reply = answer(s)
            s.close()
            if reply is None:
                break
            clients = reply["clients"]
        expect(clients and clients[0]["comm"] == "name?", f"clients, one of a strange name: {clients}")
        expect(status(path), "status, with a program of a strange name")
        job.kill()
    os.unlink(program)


def ended_agents_are_forgotten(path):
    """Whatever an agent says of its area: when it has ended there is nothing left of it."""
    odd_agent = os.path.join(os.environ["top_builddir"], "tests/it/odd-agent")
    for own_end in ("0", "100000000000000", "800000000000"):
        job = subprocess.run([odd_agent, path, own_end], stdout=subprocess.PIPE, timeout=20)
        if own_end == "0":
            expect(job.stdout.startswith(b"status 0"), f"an agent attaches: {job.stdout}")

    def clients():
        s = connect(path)
        send(s, b'{"cmd":"clients"}')
        reply = answer(s)
        s.close()
        return reply and reply["clients"]
    settles(clients, [], "clients that have ended")


def first_packets(path):
    for data in (b"\0", b"P", b"hello, world", head(HELLO)[:7], head(HELLO) + b"x", head(ATTACH),
                 head(HELLO, magic=1), b"\xff" * 60000):
        s = connect(path)
        send(s, data)
        expect(closed(s), f"closed after a first packet {data[:16]!r} of {len(data)} bytes")
        s.close()
    with open("/dev/null", "rb") as null:
        s = connect(path)
        send(s, b"garbage", [null.fileno()] * 8)
        expect(closed(s), "closed after garbage with descriptors")
        s.close()
    s = connect(path)
    send(s, head(HELLO, version=VERSION + 1))
    data = s.recv(65536)
    _, _, kind, err = struct.unpack_from("<IHHi", data)
    expect(kind == OFFER and err < 0 and b"version" in data, "another version is told so")
    s.close()
    connect(path).close()


def attach_packets(path):
    null = os.open("/dev/null", os.O_RDONLY)
    for data, fds, what in (
        (attach(), [], "no descriptor"),
        (attach(), [null], "a descriptor that is no userfaultfd"),
        (attach(), [null] * 2, "two descriptors"),
        (attach(), [null] * 20, "twenty descriptors"),
        (attach()[:-1], [null], "a short packet"),
        (attach() + b"x", [null], "a long packet"),
        (attach(kind=HELLO), [null], "another kind"),
        (attach(group=b"x" * 32), [null], "a group without end"),
        (b"{}", [null], "control"),
    ):
        s = offered(path)
        send(s, data, fds)
        expect(closed(s), f"closed after an ATTACH with {what}")
        s.close()
    os.close(null)
    offered(path).close()


def silent_peers(path, pid, fds_before):
    silent = [connect(path) for _ in range(PER_UID + 20)]
    for s in silent:
        s.settimeout(10)
    settles(lambda: nr_fds(pid), fds_before + PER_UID, "descriptors of the keeper with silent peers")
    started = time.monotonic()
    for s in silent:
        expect(closed(s), "a silent peer is closed")
        s.close()
    took = time.monotonic() - started
    expect(3 < took < 8, f"silent peers are closed after about 5 s, not {took:.1f} s")
    settles(lambda: nr_fds(pid), fds_before, "descriptors of the keeper after the silent peers")


def as_user(uid, fn):
    """Connections have the ids that the peer had when it connected."""
    os.seteuid(uid)
    try:
        return fn()
    finally:
        os.seteuid(0)


def silent_users(path, pid, fds_before):
    """Two users take all places, and one of them goes on: a third comes through at once."""
    if os.getuid() != 0:
        print("not tried: peers of several users take root")
        return
    silent = [s for uid in (12321, 12322)
              for s in as_user(uid, lambda: [connect(path) for _ in range(PER_UID)])]
    settles(lambda: nr_fds(pid), fds_before + ALL, "descriptors of the keeper with two silent users")
    for _ in range(5):
        silent += as_user(12321, lambda: [connect(path)])
        started = time.monotonic()
        expect(status(path), "another user is served")
        took = time.monotonic() - started
        expect(took < 3, f"at once, not after {took:.1f} s")
    for s in silent:
        s.close()
    settles(lambda: nr_fds(pid), fds_before, "descriptors of the keeper after the silent users")


def main():
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "sock")
        ready, write_end = os.pipe()
        daemon = subprocess.Popen([os.environ["PAGERD"], f"--socket={path}", "--ram=64M",
                                   f"--ready-fd={write_end}"], pass_fds=[write_end])
        os.close(write_end)
        word = os.read(ready, 4096)
        if word != b"ok\n":
            print("pagerd does not run here:", word.decode().strip())
            daemon.wait()
            return 77
        try:
            expect(status(path), "a control request is answered")
            control_requests(path)
            unread_answers(path)
            names_of_any_bytes(path, tmp)
            ended_agents_are_forgotten(path)
            fds_before = nr_fds(daemon.pid)
            first_packets(path)
            attach_packets(path)
            settles(lambda: nr_fds(daemon.pid), fds_before, "descriptors of the keeper")
            silent_peers(path, daemon.pid, fds_before)
            os.chmod(tmp, 0o755)
            silent_users(path, daemon.pid, fds_before)
            expect(status(path), "a control request is answered after all that")
            expect(daemon.poll() is None, "pagerd is still there")
        finally:
            daemon.send_signal(signal.SIGTERM)
            expect(daemon.wait(15) == 0, "pagerd ends orderly")
        expect(os.listdir(tmp) == [], f"nothing is left: {os.listdir(tmp)}")
    return 1 if failed else 0


sys.exit(main())
