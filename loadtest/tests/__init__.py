"""Tests of what needs no proxy: what clients print, and what is made of records. `python3 -m unittest` in `loadtest`."""
