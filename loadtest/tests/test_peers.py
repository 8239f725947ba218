"""The peers' settings are complete once they are filled in, and name the addresses of the run."""

import re
import tempfile
import unittest
from types import SimpleNamespace
from unittest import mock

from harness import peers, processes, proxies
from harness.scenarios import HAPROXIES, SCENARIOS

WORD = re.compile(r"@[A-Z_]+@")
ADDRESSES = ["127.0.0.1", "127.0.0.2"]


def filled(directory, kind, scenario, backends=()):
    """The text that a peer would be started with, and the command."""
    proxy = proxies.Proxy(kind, kind, f"/usr/sbin/{kind}", SCENARIOS[scenario])
    proxy.targets, proxy.backends = [(address, 8080) for address in ADDRESSES], backends
    many = [f"127.0.0.9:{9090 + index}" for index in range(SCENARIOS[scenario].backends)]
    host = SimpleNamespace(run_directory=directory, backends=many)
    with mock.patch("harness.programs.stream_module", return_value="load_module x;"):
        command = peers.command(proxy, host, "127.0.0.9:9090")
    path = next(word for word in command if word.startswith(directory) and peers.template_of(proxy) in word)
    return processes.read(path), command


class Settings(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def test_no_word_is_left(self):
        for scenario in SCENARIOS.values():
            known = (HAPROXIES | {"nginx", "envoy"}) - scenario.unfit
            backends = ["127.0.0.1:1", "127.0.0.1:2"] if scenario.failure else ()
            for kind in known:
                text, _ = filled(self.directory, kind, scenario.name, backends)
                self.assertIsNone(WORD.search(text), f"{kind}, {scenario.name}")

    def test_all_addresses_are_listened_on(self):
        for kind in ("haproxy", "nginx", "envoy"):
            text, _ = filled(self.directory, kind, "close")
            for address in ADDRESSES:
                self.assertIn(address, text, kind)

    def test_backends_stand_in_place_of_the_origin(self):
        for kind in ("haproxy", "nginx"):
            text, _ = filled(self.directory, kind, "failures-kill", ["127.0.0.1:5001", "127.0.0.1:5002"])
            self.assertIn("127.0.0.1:5002", text, kind)
            self.assertNotIn("127.0.0.9", text, kind)

    def test_many_backends_are_many_addresses_of_the_origin(self):
        text, _ = filled(self.directory, "haproxy-many", "backends-1000")
        self.assertEqual(text.count("    server origin"), 1000)
        self.assertIn("server origin999 127.0.0.9:10089 ", text)

    def test_haproxy_as_it_comes_copies_with_its_usual_sizes(self):
        text, _ = filled(self.directory, "haproxy-auto", "tcp-bulk")
        for line in ("tune.bufsize 16384", "option splice-auto", "# tune.pipesize unset"):
            self.assertIn(line, text)

    def test_envoy_has_one_worker_and_its_origin(self):
        text, command = filled(self.directory, "envoy", "small-64")
        self.assertIn("address: 127.0.0.9, port_value: 9090", text)
        self.assertEqual(command[command.index("--concurrency") + 1], "1")

    def test_a_scenario_changes_what_it_names(self):
        usual, _ = filled(self.directory, "nginx", "bulk-1m")
        slow, _ = filled(self.directory, "nginx", "slow-readers")
        self.assertIn("proxy_buffers 16 64k;", usual)
        self.assertIn("proxy_buffers 4 16k;", slow)


if __name__ == "__main__":
    unittest.main()
