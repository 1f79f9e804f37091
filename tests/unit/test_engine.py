"""What is asked of Snakemake's own settings, on the classes that it runs with."""

from dataclasses import fields
from types import SimpleNamespace

import pytest
from snakemake.settings.types import MaxJobsPerTimespan, SchedulingSettings

from prunegrid import engine


@pytest.mark.parametrize(("local", "limited"), [(True, False), (False, True)])
def test_jobs_of_this_machine_start_without_a_limit_in_time(local, limited):
    """Those of a cluster keep it: a scheduler is not to be flooded."""
    assert "max_jobs_per_timespan" in {field.name for field in fields(SchedulingSettings)}
    settings = SchedulingSettings(max_jobs_per_timespan=MaxJobsPerTimespan(100))
    engine.without_timers(SimpleNamespace(local_exec=local, scheduling_settings=settings))
    assert (settings.max_jobs_per_timespan is not None) is limited


def test_where_jobs_are_only_shown_there_is_nothing_to_limit():
    engine.without_timers(SimpleNamespace(local_exec=True, scheduling_settings=None))
