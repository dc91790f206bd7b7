"""How every test draws its examples.

No example has a time limit: how long one takes depends on the machine. Examples differ from run to run. A failure
prints what draws it again, and `--hypothesis-seed=N` makes a whole run repeatable.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "npusim", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True, derandomize=False
)
settings.load_profile("npusim")
