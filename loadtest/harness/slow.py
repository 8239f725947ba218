"""Clients that take a large answer at 1 KiB a second: they are to cost a proxy little, and the others nothing.

They are read by one thread of this process, which has nothing else to do while the client of the small requests runs.
"""

import socket
import threading
import time

from . import exchanges, processes
from .measure import measure
from .processes import Failed

ANSWER_BYTES = 1 << 20
PIECE_BYTES = 1024
# Each is read once a second; in turns, so that the reading is no burst.
TURNS = 20
REQUEST = f"GET /bytes/{ANSWER_BYTES} HTTP/1.1\r\nHost: slow.test\r\n\r\n".encode()
# The kernel's smallest few KiB: a client that had room for the whole answer would be no slow reader to the proxy.
_RECEIVE_BUFFER = 4096
_SETTLE_SECONDS = 1.0
# So long without a byte, where 1 KiB a second is asked for, is a stall.
_STALL_SECONDS = 5.0
_PATTERN = exchanges.pattern(ANSWER_BYTES)


class Reader:
    def __init__(self, target):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self.socket.settimeout(5)
        self.socket.connect(target)
        self.socket.sendall(REQUEST)
        self.socket.setblocking(False)
        self.head, self.body_bytes, self.last = b"", 0, time.monotonic()

    def read(self):
        """Takes a little; returns what is wrong, or nothing."""
        try:
            some = self.socket.recv(PIECE_BYTES)
        except BlockingIOError:
            return "slow_stalled" if time.monotonic() - self.last > _STALL_SECONDS else None
        except OSError:
            return "slow_reset"
        if not some:
            return "slow_closed"
        self.last = time.monotonic()
        return self.take(some)

    def take(self, some):
        if self.head is not None:
            head, end, some = (self.head + some).partition(b"\r\n\r\n")
            if not end:
                self.head = head
                return None
            self.head = None
            if not head.startswith(b"HTTP/1.1 200"):
                return "slow_status"
        right = some == _PATTERN[self.body_bytes : self.body_bytes + len(some)]
        self.body_bytes += len(some)
        return None if right else "slow_content"


class Readers:
    """A context manager: opened when it is entered, read until it is left."""

    def __init__(self, target, count):
        self.target, self.count, self.readers, self.errors = target, count, [], {}
        self.over, self.thread = threading.Event(), threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        try:
            for _ in range(self.count):
                self.readers.append(Reader(self.target))
        except OSError as error:
            self._close()
            raise Failed(f"slow reader {len(self.readers)} of {self.count} could not be opened: {error}") from error
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self._close()

    def _close(self):
        for reader in filter(None, self.readers):
            reader.socket.close()

    def _read(self):
        turn = 0
        while not self.over.wait(1 / TURNS):
            for at in range(turn, len(self.readers), TURNS):
                if self.readers[at] is not None:
                    self._read_one(at)
            turn = (turn + 1) % TURNS

    def _read_one(self, at):
        wrong = self.readers[at].read()
        if wrong:
            self.errors[wrong] = self.errors.get(wrong, 0) + 1
            self.readers[at].socket.close()
            self.readers[at] = None


def measure_beside(host, scenario, proxy, count, seconds):
    """Small requests at a steady rate while the slow readers hold on; a freshly started proxy, as memory is compared."""
    measure(host, scenario, proxy, 0.5)
    before = processes.memory(proxy.pids())["pss_bytes"]
    with Readers(proxy.targets[0], count) as readers:
        time.sleep(_SETTLE_SECONDS)
        held = processes.memory(proxy.pids())["pss_bytes"]
        sample = measure(host, scenario, proxy, seconds)
        taken = sum(reader.body_bytes for reader in readers.readers if reader)
    if not taken:
        readers.errors["slow_nothing"] = 1
    errors = {**sample.pop("errors"), **readers.errors}
    return {**sample, "slow_readers": count, "reader_bytes": (held - before) / count, "errors": errors}
