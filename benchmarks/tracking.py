"""What watching a training costs: ``python -m benchmarks.tracking``, in a folder where a store may be made.

Prints, as JSON, the seconds that one epoch's numbers take to be logged, and the processor seconds that the samples of
system metrics take of each second.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from resblock.core.training.run import METRIC_NAMES
from resblock.tracking.result import Result
from resblock.tracking.stage import track

EPOCHS, WATCHED = 50, 30.0  # calls, seconds


def main() -> None:
    """Log epochs of made-up numbers into a real store, then only watch the machine."""
    opening = Result(name="train@benchmark", dataset="benchmark", key="benchmark")
    seconds: list[float] = []
    with track(opening, about="a benchmark", warn=sys.exit, watch_machine=True) as run:
        for epoch in range(1, EPOCHS + 1):
            began = time.perf_counter()
            run.epoch(dict.fromkeys(METRIC_NAMES, 0.5), epoch)
            seconds.append(time.perf_counter() - began)
        before = time.process_time()
        time.sleep(WATCHED)
        watching = (time.process_time() - before) / WATCHED
    print(json.dumps({"epoch_seconds": statistics.median(seconds), "watching": watching}))


if __name__ == "__main__":
    main()
