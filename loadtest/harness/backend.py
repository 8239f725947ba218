"""A backend to be ended, killed and stopped: python3 backend.py ADDRESS:PORT FILE. Standard library only.

It answers GET with 128 bytes and POST after it has noted the request's number in FILE, each after 2 ms. On TERM it accepts
nothing more, does what it has begun, says `Connection: close`, and ends. The port is shared, so that the driver can keep it.
"""

import asyncio
import os
import signal
import socket
import sys

from exchanges import pattern

WORK_SECONDS = 0.002
# How long a connection without a request is left open on TERM.
GRACE_SECONDS = 0.1


class Backend:
    def __init__(self, notes):
        self.notes, self.leaving, self.busy, self.writers = notes, False, 0, set()

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.busy += 1
                try:
                    await self.answer(head, reader, writer)
                finally:
                    self.busy -= 1
                if self.leaving:
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def answer(self, head, reader, writer):
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        length = int(fields.get(b"content-length", 0))
        if length:
            await reader.readexactly(length)
        if head.startswith(b"POST"):
            os.write(self.notes, fields[b"x-number"] + b"\n")
        await asyncio.sleep(WORK_SECONDS)
        close = b"Connection: close\r\n" if self.leaving else b""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 128\r\n" + close + b"\r\n" + pattern(128))
        await writer.drain()


async def main(address, notes):
    backend, ended = Backend(notes), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    host, port = address.split(":")
    listener = socket.create_server((host, int(port)), reuse_port=True, backlog=1024)
    server = await asyncio.start_server(backend.serve, sock=listener)
    await ended.wait()
    backend.leaving = True
    server.close()
    await asyncio.sleep(GRACE_SECONDS)
    while backend.busy:
        await asyncio.sleep(WORK_SECONDS)
    # A clean end, where the end of the process would be a reset for whoever has just asked.
    for writer in list(backend.writers):
        writer.close()
    await asyncio.sleep(WORK_SECONDS)
    # Not by the interpreter's own end, which complains of tasks that still wait.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)))
