"""Imports without collections: off in the body, on again after it, and only where it is needed."""

import gc
import weakref

import pytest

from prunegrid.common.gc_pause import importing


class Loop:
    """Garbage that only a collection finds."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def thawed():
    gc.collect()
    yield
    gc.enable()
    gc.unfreeze()
    gc.freeze()


def test_nothing_is_collected_in_the_body_and_all_after_it(thawed):
    with importing("not.loaded"):
        assert not gc.isenabled()
    assert gc.isenabled()
    gone = weakref.ref(Loop())
    gc.collect()
    assert gone() is None


def test_what_is_loaded_leaves_the_garbage_of_a_long_process_to_be_found(thawed):
    gone = weakref.ref(Loop())
    with importing("sys"):
        assert gc.isenabled()
    gc.collect()
    assert gone() is None


def test_collections_that_are_off_stay_off_and_a_failed_import_turns_them_on(thawed):
    gc.disable()
    with importing("not.loaded"):
        pass
    assert not gc.isenabled()
    gc.enable()
    with pytest.raises(ImportError), importing("not.loaded"):
        raise ImportError
    assert gc.isenabled()
