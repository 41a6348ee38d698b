"""Randomness by purpose."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from resblock.core.seeds import derive, generator


@pytest.mark.parametrize(
    ("seed", "purpose", "expected"),
    [
        # The first four bytes that `printf 0/order/1 | sha256sum` shows, and likewise.
        (0, ("order", 1), 0x7C9B8345),
        (2**32 - 1, ("weights", "stage1_block1_conv1"), 0xC99990E1),
    ],
)
def test_seeds_stay_what_they_were(seed: int, purpose: tuple[str | int, ...], expected: int) -> None:
    text = "/".join(map(str, (seed, *purpose)))
    assert int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) == expected
    assert derive(seed, *purpose) == expected


def test_every_purpose_has_a_seed_of_its_own() -> None:
    seeds = [derive(seed, purpose, epoch) for seed in range(20) for purpose in ("order", "crop") for epoch in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_generators_start_at_their_purpose() -> None:
    drawn = generator(3, "order", 1).permutation(50)
    assert np.array_equal(drawn, np.random.default_rng(derive(3, "order", 1)).permutation(50))
    assert not np.array_equal(drawn, generator(3, "order", 2).permutation(50))
    assert not np.array_equal(drawn, generator(4, "order", 1).permutation(50))
