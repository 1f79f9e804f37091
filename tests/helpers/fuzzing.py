"""Settings of the fuzz tests: the same cases each time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def fuzz(cases: int) -> settings:
    """Return the settings of a test of so many cases."""
    return settings(max_examples=cases, derandomize=True, suppress_health_check=_CHECKS)
