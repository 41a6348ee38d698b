"""Python's clock, moved: started with this folder in PYTHONPATH, a process takes it for earlier than it is."""

import os
import time

_now, _now_ns = time.time, time.time_ns
_shift = float(os.environ.get("RESBLOCK_TEST_CLOCK", "0"))

time.time = lambda: _now() + _shift
time.time_ns = lambda: _now_ns() + int(_shift * 1e9)
