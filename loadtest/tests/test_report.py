"""Medians, spreads and ratios of the rounds, and the tables made of them."""

import json
import os
import tempfile
import unittest

from harness import report
from tests import records


class Summary(unittest.TestCase):
    def test_ratios_are_those_within_a_round(self):
        row = records.load()["summary"]["haproxy"]
        self.assertEqual(row["cpu_us"], {"median": 20.0, "min": 20.0, "max": 24.0})
        # 10/20, 16/24, 11/20: the median of the quotients, not the quotient of the medians.
        self.assertAlmostEqual(row["ratio"]["median"], 0.55)
        self.assertAlmostEqual(row["ratio"]["max"], 2 / 3)
        self.assertEqual(row["errors"], 2)

    def test_the_subject_has_no_ratio_to_itself(self):
        self.assertNotIn("ratio", records.load()["summary"]["ringway"])

    def test_latency_is_compared_by_its_p99_and_by_cpu(self):
        summary = records.latency()["summary"]
        self.assertAlmostEqual(summary["haproxy"]["ratio"]["median"], 0.8)
        self.assertAlmostEqual(summary["haproxy"]["cpu_ratio"]["median"], 0.5)
        self.assertAlmostEqual(summary["direct"]["ratio"]["median"], 2.0)
        self.assertNotIn("cpu_ratio", summary["direct"])

    def test_records_of_before_the_figure_was_written_down_are_read(self):
        for make in (records.load, records.idle, records.failures):
            old = {key: value for key, value in make().items() if key not in ("figure", "summary")}
            self.assertEqual(report.summarise(old), make()["summary"], make.__name__)


class Tables(unittest.TestCase):
    def test_every_row_is_as_wide_as_the_header(self):
        for make in records.ALL:
            header, rows = report.table(make())
            self.assertTrue(rows and all(len(row) == len(header) for row in rows), make.__name__)

    def test_p99_and_its_ratio_stand_beside_cpu(self):
        header, rows = report.table(records.latency())
        haproxy = dict(zip(header[:5], rows[1]))
        self.assertEqual((haproxy["p99 µs"], haproxy["ringway ÷ this"]), ("125.0", "0.800"))
        self.assertIn("CPU µs/request", header)

    def test_memory_stands_in_every_table(self):
        for make in (records.load, records.latency, records.idle, records.slow):
            header, rows = report.table(make())
            first = dict(zip(header, rows[0]))
            self.assertEqual((first["PSS MiB"], first["RSS MiB"]), ("1.00", "2.00"), make.__name__)
        header, rows = report.table(records.failures())
        self.assertEqual([dict(zip(header, row))["RSS MiB"] for row in rows], ["3.00", "–"])

    def test_slow_readers_have_a_column(self):
        header, rows = report.table(records.slow())
        self.assertEqual(rows[0][header.index("bytes/slow reader")], "3000")


class Directory(unittest.TestCase):
    def test_summary_and_plots_are_made_again_from_what_is_stored(self):
        with tempfile.TemporaryDirectory() as directory:
            for make in records.ALL:
                report.write(directory, make())
            report.write_summary(directory)
            first = {name: open_text(directory, name) for name in os.listdir(directory)}
            for name in first:
                if not name.endswith(".json"):
                    os.unlink(os.path.join(directory, name))
            report.write_summary(directory)
            self.assertEqual({name: open_text(directory, name) for name in os.listdir(directory)}, first)
            for make in records.ALL:
                name = make()["scenario"]
                self.assertIn(f"{name}.svg", first)
                self.assertIn(f"![{name}]({name}.svg)", first["summary.md"])
                self.assertEqual(json.loads(first[f"{name}.json"])["scenario"], name)


def open_text(directory, name):
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    unittest.main()
