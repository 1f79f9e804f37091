"""`prunegrid repair` beside jobs that outlive their run: what they make is whole, or they fail."""

import shutil

import pytest

from prunegrid.artifacts import artifact_folder
from prunegrid.artifacts.artifact_folder import read_manifest, sealed
from prunegrid.artifacts.lock import only_maker
from prunegrid.commands import repair
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError

KEY = "0123456789abcdef"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results/artifacts/scores" / KEY


def end(out):
    """Write a manifest of what is in the folder, as a job does last."""
    files = artifact_folder.list_files(out)
    body = {"key": KEY, "files": files, "content": artifact_folder.content_digest(files)}
    file_io.write_json(out / artifact_folder.MANIFEST, sealed(body))


def test_a_job_whose_folder_was_removed_leaves_no_artifact(place):
    told = "was removed while it was written"
    with pytest.raises(AttestationError, match=told), artifact_folder.writing(place) as out:
        (out / "scores.parquet").write_bytes(b"data")
        assert len(repair.repair()) == 1
        end(out)  # makes the folder again
    assert list(place.parent.iterdir()) == []


def test_a_second_maker_where_there_are_no_locks(place):
    """The first one's folder is swept; the second one's artifact is the one that stays."""
    with (
        pytest.raises(AttestationError, match="was removed"),
        artifact_folder.writing(place) as out,
    ):
        (out / "first").touch()
        with artifact_folder.writing(place) as second:
            assert second != out
            (second / "second").touch()
            end(second)
        end(out)
    assert [path.name for path in place.parent.iterdir()] == [KEY]
    assert set(read_manifest(place, KEY)["files"]) == {"second"}


def test_a_folder_goes_from_its_name_before_its_files_go(place, monkeypatch):
    """Else a file that is written meanwhile keeps a folder that has lost the others."""
    remove, seen = shutil.rmtree, []

    def slowly(path, *arguments, **named):
        seen.append(out.exists())
        remove(path, *arguments, **named)

    with (
        pytest.raises(AttestationError, match="was removed"),
        artifact_folder.writing(place) as out,
    ):
        monkeypatch.setattr(shutil, "rmtree", slowly)
        repair.repair()
        monkeypatch.setattr(shutil, "rmtree", remove)
    assert seen == [False]


def test_what_a_job_is_making_is_left_to_it(place):
    lock = place.parents[2] / f"scratch/scores-{KEY}.lock"
    with only_maker(lock, "scores"), artifact_folder.writing(place) as out:
        (out / "scores.parquet").write_bytes(b"data")
        place.mkdir()  # without a manifest
        assert repair.repair() == []
        end(out)
    assert set(read_manifest(place, KEY)["files"]) == {"scores.parquet"}
    assert repair.repair() == [] and not lock.exists()


def test_an_artifact_that_is_whole_again_by_its_turn_stays(place, monkeypatch):
    place.mkdir(parents=True)
    found = repair.fault_of

    def finished(path):
        monkeypatch.setattr(repair, "fault_of", found)
        told = found(path)
        end(path)
        return told

    monkeypatch.setattr(repair, "fault_of", finished)
    assert repair.repair() == [] and read_manifest(place, KEY)
