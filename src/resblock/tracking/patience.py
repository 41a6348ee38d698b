"""A store that answers, but slowly, must not hold up a training either."""

from __future__ import annotations

import os
import time
from typing import Any

from resblock.signals import uninterrupted

PATIENCE_VARIABLE = "RESBLOCK_TRACKING_PATIENCE"
PATIENCE = 60.0  # seconds that a stage waits for MLflow in all


class TooSlowError(Exception):
    """Calls to MLflow have taken longer in all than a stage is to wait."""


class PatientClient:
    """MLflow's client; it refuses to be called again once its calls have taken all of a stage's patience."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._patience = self._left = float(os.environ.get(PATIENCE_VARIABLE) or PATIENCE)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self._left < 0:
                raise TooSlowError(
                    f"its calls took {self._patience - self._left:.0f} s, more than {PATIENCE_VARIABLE} allows, "
                    f"{self._patience:g} s"
                )
            begin = time.monotonic()
            try:
                with uninterrupted():
                    return method(*arguments, **options)
            finally:
                self._left -= time.monotonic() - begin

        return call
