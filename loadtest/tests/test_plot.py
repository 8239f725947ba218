"""A plot is well-formed, says what the record says, and stays inside its frame."""

import unittest
from xml.etree import ElementTree

from harness import plot
from tests import records

SVG = "{http://www.w3.org/2000/svg}"
# No letter of the sizes used here is wider, on average, than this part of its height.
LETTER = 0.56


def drawn(record):
    return ElementTree.fromstring(plot.draw(record))


def words(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def bar_widths(root):
    return [float(rect.get("width")) for rect in root.iter(f"{SVG}rect") if rect.get("rx") == "2"]


class Plot(unittest.TestCase):
    def test_every_kind_of_record_can_be_drawn(self):
        for make in records.ALL:
            record = make()
            said = words(drawn(record))
            self.assertIn(record["scenario"], said, make.__name__)
            for name in record["summary"]:
                self.assertIn(name, said, make.__name__)

    def test_bars_are_as_long_as_their_values(self):
        ours, theirs = bar_widths(drawn(records.load()))
        self.assertAlmostEqual(ours / theirs, 11 / 20, places=2)

    def test_a_bar_says_its_value_and_the_ratio_of_the_table(self):
        said = words(drawn(records.load()))
        self.assertIn("11", said)
        self.assertIn("20  (1.82 × ringway)", said)

    def test_latency_shows_three_percentiles_and_cpu(self):
        root = drawn(records.latency())
        # Three in the key, and three for each of three rows.
        self.assertEqual(len(list(root.iter(f"{SVG}circle"))), 12)
        self.assertIn("40 / 50 / 12 s", words(root))
        self.assertEqual(len(bar_widths(root)), 2)

    def test_what_was_lost_is_told_in_words(self):
        said = words(drawn(records.failures()))
        self.assertIn("0 GETs, 0 POSTs", said)
        self.assertIn("1 GETs, 2 POSTs, 3 twice", said)

    def test_text_is_escaped(self):
        self.assertIn("GET, <128>-byte answer & more", words(drawn(records.load())))

    def test_what_was_not_committed_is_told(self):
        for said, shown in (("0123456789abcdef", "commit 0123456789ab"), ("0123456789ab with changes", "commit 0123456789ab with changes")):
            foot = words(drawn({**records.load(), "commit": said}))[-1]
            self.assertTrue(foot.endswith(shown), foot)

    def test_nothing_leaves_the_frame(self):
        long = {"rounds": 15, "kernel": "6.18.44-fc-v669", "commit": "0123456789ab with changes"}
        for make in records.ALL:
            root = drawn({**make(), **long})
            width, height = float(root.get("width")), float(root.get("height"))
            for element in root.iter(f"{SVG}text"):
                length = len(element.text) * float(element.get("font-size")) * LETTER
                shift = {"start": 0, "middle": length / 2, "end": length}[element.get("text-anchor")]
                left = float(element.get("x")) - shift
                self.assertTrue(0 <= left and left + length <= width, f"{make.__name__}: {element.text}")
                self.assertTrue(0 < float(element.get("y")) < height, f"{make.__name__}: {element.text}")

    def test_it_brings_its_own_ground(self):
        ground = next(drawn(records.load()).iter(f"{SVG}rect"))
        self.assertEqual(ground.get("fill"), plot.GROUND)

    def test_marks_are_round_and_few(self):
        for most in (0.03, 0.9, 1, 7, 24, 99, 1044, 16_000):
            step = plot.nice_step(most)
            self.assertLessEqual(most / step, 5, most)
            self.assertIn(f"{step:e}"[0], "125", most)


if __name__ == "__main__":
    unittest.main()
