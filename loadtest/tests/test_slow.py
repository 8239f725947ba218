"""What a slow reader takes for right and for wrong, and the order of the rounds."""

import socket
import unittest

from harness import exchanges, rounds, slow

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n"


class Reader(unittest.TestCase):
    def setUp(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.reader = slow.Reader(listener.getsockname())
        self.addCleanup(self.reader.socket.close)
        self.proxy, _ = listener.accept()
        self.addCleanup(self.proxy.close)

    def test_it_asks_for_the_large_answer(self):
        self.assertEqual(self.proxy.recv(4096), slow.REQUEST)

    def test_nothing_yet_is_no_fault(self):
        self.assertIsNone(self.reader.read())

    def test_a_body_is_compared_however_it_is_cut(self):
        answer = HEAD + exchanges.pattern(3000)
        for at in range(0, len(answer), 7):
            self.assertIsNone(self.reader.take(answer[at : at + 7]))
        self.assertEqual(self.reader.body_bytes, 3000)

    def test_wrong_bytes_and_statuses_are_faults(self):
        self.assertEqual(self.reader.take(HEAD + b"abd"), "slow_content")
        self.reader.head = b""
        self.assertEqual(self.reader.take(b"HTTP/1.1 503 No\r\n\r\n"), "slow_status")

    def test_an_end_is_a_fault(self):
        # What it asked is read, so that the end is no reset.
        self.proxy.recv(4096)
        self.proxy.close()
        self.reader.socket.setblocking(True)
        self.assertEqual(self.reader.read(), "slow_closed")


class Order(unittest.TestCase):
    def test_every_second_round_goes_backwards(self):
        self.assertEqual([rounds.order("ABC", number) for number in (1, 2, 3)], ["ABC", "CBA", "ABC"])


if __name__ == "__main__":
    unittest.main()
