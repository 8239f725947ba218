"""How proxies are started that need no settings of their own."""

import unittest
from types import SimpleNamespace

from harness import proxies
from harness.scenarios import SCENARIOS

ORIGIN = "127.0.0.9:9090"


def floor_command(kind, scenario):
    many = [f"127.0.{index // 250}.{index % 250 + 1}:9090" for index in range(SCENARIOS[scenario].backends)]
    host = SimpleNamespace(backends=many, proxy_core=0)
    proxy = proxies.Proxy(kind, kind, "relay_floor", SCENARIOS[scenario])
    return proxy._floor_command(host, ["127.0.0.1"], ORIGIN), many


class Floors(unittest.TestCase):
    def test_one_relays_to_the_origin(self):
        for scenario in ("small-64", "backends-1000"):
            command, _ = floor_command("floor", scenario)
            self.assertEqual(command, ["relay_floor", "127.0.0.1:0", ORIGIN, "--turns", "1", "--core", "0"])

    def test_the_connections_of_all_clients_reach_many_backends_about_once_each(self):
        for scenario, turns in (("backends-1000", 16), ("backends-100", 2), ("backends-10", 1)):
            command, many = floor_command("floor-many", scenario)
            self.assertEqual(command[2].split(","), many)
            self.assertEqual(command[3:5], ["--turns", str(turns)])


if __name__ == "__main__":
    unittest.main()
