"""What each client prints becomes the same few figures; what is no report is refused."""

import json
import os
import unittest

from harness import client, h2load, measure, oha, wrk
from harness.processes import Failed
from harness.scenarios import SCENARIOS

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "samples")
USED = {"cpu_total_us": 1e6, "threads": 1, "pss_bytes": 1, "rss_bytes": 2}


def sample(name):
    with open(os.path.join(SAMPLES, name), encoding="utf-8") as file:
        return file.read()


class Wrk(unittest.TestCase):
    def test_the_report_line_is_found_among_the_rest(self):
        report = wrk.parse(sample("wrk.txt"))
        self.assertEqual((report["requests"], report["bytes"], report["errors"]), (16497, 4107753, {}))
        self.assertAlmostEqual(report["seconds"], 1.013574)
        self.assertEqual([report[key] for key in ("p50_us", "p99_us", "p999_us", "max_us")], [2972, 13735, 17480, 19817])
        self.assertNotIn("duration_us", report)

    def test_errors_keep_their_names(self):
        report = wrk.parse(sample("wrk.txt").replace('"status":0', '"status":3').replace('"timeout":0', '"timeout":1'))
        self.assertEqual(report["errors"], {"status": 3, "timeout": 1})

    def test_no_report_is_a_failure(self):
        self.assertRaises(Failed, wrk.parse, "unable to connect\n")


class Oha(unittest.TestCase):
    def test_seconds_become_microseconds(self):
        report = oha.parse(sample("oha.json"))
        self.assertEqual((report["requests"], report["bytes"], report["errors"]), (4008, 513024, {}))
        self.assertAlmostEqual(report["p99_us"], 16942.331)
        self.assertAlmostEqual(report["p999_us"], 19028.076)
        self.assertAlmostEqual(report["max_us"], 19029.127)

    def test_wrong_statuses_and_failures_are_errors_but_not_the_end_of_the_run(self):
        said = json.loads(sample("oha.json"))
        said["statusCodeDistribution"] = {"200": 90, "503": 10}
        said["errorDistribution"] = {"error reading a body from connection": 5, "aborted due to deadline": 64}
        report = oha.parse(json.dumps(said))
        self.assertEqual((report["requests"], report["errors"]), (100, {"status": 10, "request": 5}))

    def test_a_run_without_an_answer_has_no_percentiles(self):
        said = json.loads(sample("oha.json"))
        said["statusCodeDistribution"], said["summary"]["slowest"] = {}, None
        said["latencyPercentiles"] = dict.fromkeys(said["latencyPercentiles"])
        report = oha.parse(json.dumps(said))
        self.assertEqual([key for key in report if key.endswith("_us")], [])
        self.assertEqual(measure.figures(SCENARIOS["small-64"], report, USED)["errors"], {"nothing_completed": 1})

    def test_no_report_is_a_failure(self):
        self.assertRaises(Failed, oha.parse, "error: unexpected argument\n")
        self.assertRaises(Failed, oha.parse, '{"summary": {}}')

    def test_a_rate_is_corrected_for_coordinated_omission(self):
        words = oha.command("oha", SCENARIOS["latency-20k"], 3, [("127.0.0.1", 80)])
        self.assertIn("--latency-correction", words)
        self.assertEqual(words[words.index("-q") + 1], "20000")
        self.assertNotIn("-q", oha.command("oha", SCENARIOS["small-64"], 3, [("127.0.0.1", 80)]))


class H2load(unittest.TestCase):
    def test_units_are_read(self):
        report = h2load.parse(sample("h2load.txt"))
        self.assertEqual((report["requests"], report["bytes"], report["errors"]), (17216, 2205696, {}))
        self.assertAlmostEqual(report["seconds"], 1.0)
        self.assertAlmostEqual(report["max_us"], 16160)
        self.assertAlmostEqual(report["mean_us"], 3690)

    def test_a_wrong_status_is_one_error(self):
        text = sample("h2load.txt").replace("17216 succeeded, 0 failed", "17206 succeeded, 10 failed")
        text = text.replace("17216 2xx, 0 3xx, 0 4xx, 0 5xx", "17206 2xx, 0 3xx, 0 4xx, 8 5xx")
        self.assertEqual(h2load.parse(text)["errors"], {"status": 8, "request": 2})

    def test_no_report_is_a_failure(self):
        self.assertRaises(Failed, h2load.parse, "h2load: not found\n")


class Client(unittest.TestCase):
    def test_exchanges_are_requests_and_lateness_is_kept(self):
        report = client.parse(sample("client-rate.json"))
        self.assertEqual((report["requests"], report["errors"]), (6000, {}))
        self.assertEqual((report["p999_us"], report["late_p99_us"]), (36962.3, 32636.9))

    def test_only_errors_that_happened_are_told(self):
        report = client.parse(sample("client-rate.json").replace('"timeout":0', '"timeout":7'))
        self.assertEqual(report["errors"], {"timeout": 7})

    def test_the_rate_is_passed_on(self):
        words = client.command("client", SCENARIOS["latency-20k"], 0.5, [("127.0.0.1", 80)])
        self.assertEqual(words[:4], ["client", "get", "--target", "127.0.0.1:80"])
        self.assertEqual(words[-2:], ["--rate", "20000"])
        self.assertNotIn("--rate", client.command("client", SCENARIOS["tcp-small-64"], 1, [("127.0.0.1", 80)]))

    def test_no_report_is_a_failure(self):
        self.assertRaises(Failed, client.parse, "usage: client WORK\n")


class Figures(unittest.TestCase):
    def test_the_units_are_those_of_the_scenario(self):
        report = {"requests": 100, "bytes": 50 << 20, "seconds": 2.0, "resent": 3}
        for name, units in (("small-64", 100), ("bulk-1m", 50), ("udp-echo", 200), ("udp-churn", 100)):
            figures = measure.figures(SCENARIOS[name], {**report, "errors": {}}, USED)
            self.assertAlmostEqual(figures["cpu_us"], 1e6 / units, msg=name)
            self.assertAlmostEqual(figures["rate"], units / 2, msg=name)
            self.assertEqual("resent" in figures, name.startswith("udp"), name)
            self.assertEqual(figures["errors"], {}, name)

    def test_every_client_of_every_scenario_is_one_that_we_have(self):
        for scenario in SCENARIOS.values():
            self.assertLessEqual(set(scenario.clients), set(measure.CLIENTS), scenario.name)
            self.assertEqual(scenario.client("none"), scenario.client(), scenario.name)


if __name__ == "__main__":
    unittest.main()
