"""Single exchanges by hand: what a proxy is asked before any load, with every byte of the answer compared."""

import http.client
import socket

HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: idle.test\r\n\r\n"
MESSAGE_BYTES = 128
_DATAGRAM_ATTEMPTS = 5


def pattern(size):
    return bytes(b"a"[0] + at % 23 for at in range(size))


def by_hand(scenario, target):
    """One exchange from a socket of its own; anything but the right answer is an error."""
    if scenario.protocol == "http":
        _http(scenario, target)
    elif scenario.protocol == "tcp":
        with socket.create_connection(target, 5) as connection:
            tcp_on(connection, scenario)
    else:
        udp(target)


def on(connection, scenario):
    """One small exchange on a connection that stays open."""
    (http_on if scenario.protocol == "http" else tcp_on)(connection, scenario)


def http_on(connection, scenario):
    connection.sendall(HTTP_REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < scenario.body_bytes:
        answer += _some(connection)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise OSError(f"answered {answer[:40]!r}")


def tcp_on(connection, scenario):
    message = pattern(MESSAGE_BYTES)
    if scenario.service == "bulk":
        message = scenario.body_bytes.to_bytes(8, "little") + message[8:]
    expected = pattern(scenario.body_bytes)
    connection.sendall(message)
    answer = exactly(connection, len(expected))
    if answer != expected:
        raise OSError(f"{len(answer)} bytes came back, and not those that the origin sent")
    if scenario.service == "once" and connection.recv(1):
        raise OSError("more came back than the origin sent")


def exactly(connection, size):
    answer = bytearray()
    while len(answer) < size:
        answer += _some(connection)
    return answer


def _some(connection):
    some = connection.recv(65_536)
    if not some:
        raise OSError("closed before the answer was complete")
    return some


def udp(target):
    """A datagram there and back; a lost one is sent again."""
    message = pattern(MESSAGE_BYTES)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect(target)
        for _ in range(_DATAGRAM_ATTEMPTS):
            client.send(message)
            try:
                answer = client.recv(65_536)
            except TimeoutError:
                continue
            if answer != message:
                raise OSError(f"a datagram of {len(answer)} bytes came back, and not the one that was sent")
            return
    raise OSError("no datagram came back")


def _http(scenario, target):
    connection = http.client.HTTPConnection(*target, timeout=5)
    try:
        if scenario.post_bytes:
            connection.request("POST", scenario.path, body=b"x" * scenario.post_bytes)
            expected = f"{scenario.post_bytes}\n".encode()
        else:
            connection.request("GET", scenario.path)
            expected = pattern(scenario.body_bytes)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise OSError(repr(error)) from error
    finally:
        connection.close()
    if answer.status != 200 or body != expected:
        raise OSError(f"answered {answer.status} with {len(body)} bytes, not what the origin sent")
