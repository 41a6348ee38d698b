"""A store that answers slowly, or with an error: how long a stage waits for it, and what it says of it."""

from __future__ import annotations

import os
import textwrap
import time
from typing import Any

from resblock.core.errors import one_line
from resblock.signals import uninterrupted

PATIENCE_VARIABLE = "RESBLOCK_TRACKING_PATIENCE"
PATIENCE = 60.0  # seconds that a stage waits for MLflow at a time
LONGEST_CALL = 30.0  # seconds that count of one: a process that was stopped meanwhile looks the same
SHARE = 0.1  # of the time that passes comes back: a healthy store at some distance may take that much of a training
LONGEST = 400  # characters of an error, which holds MLflow's longest advice


class TooSlowError(Exception):
    """Calls to MLflow have taken longer than a stage is to wait."""


class PatientClient:
    """MLflow's client; it refuses to be called again once its calls have taken all of a stage's patience.

    Patience comes back with time, so that many quick calls of a long training do not use it up.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._patience = self._left = float(os.environ.get(PATIENCE_VARIABLE) or PATIENCE)
        self._seen = time.monotonic()  # when it was last called

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            begin = time.monotonic()
            self._left = min(self._patience, self._left + SHARE * (begin - self._seen))
            if self._left < 0:
                raise TooSlowError(
                    f"its calls took {self._patience - self._left:.0f} s, more than {PATIENCE_VARIABLE} allows, "
                    f"{self._patience:g} s"
                )
            try:
                with uninterrupted():
                    return method(*arguments, **options)
            finally:
                self._seen = time.monotonic()
                self._left -= min(self._seen - begin, max(LONGEST_CALL, self._patience / 2))

        return call


def in_brief(error: Exception) -> str:
    """Return what `error` says as one line that ends with a word, and without a full stop."""
    return textwrap.shorten(one_line(error, 10 * LONGEST), LONGEST, placeholder=" …").rstrip(".")
