"""How many examples a fuzzer tries: few in the normal run, more with KS_LOTTERY_FUZZ."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def examples(count: int) -> settings:
    """Return the settings of a fuzzer: `count` fixed examples, or KS_LOTTERY_FUZZ times as many random ones."""
    factor = int(os.environ.get("KS_LOTTERY_FUZZ", "0"))
    return settings(
        max_examples=count * max(factor, 1),
        derandomize=factor == 0,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
