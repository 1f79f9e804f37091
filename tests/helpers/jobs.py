"""A parent artifact of a step, and its weights dropped."""

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io


def make_parent(tmp_path, name="x"):
    folder = tmp_path / "parent"
    with artifact_folder.writing(folder) as out:
        (out / name).write_text("1")
        files = artifact_folder.list_files(out)
        file_io.write_json(
            out / "manifest.json",
            {
                "key": "p" * 16,
                "stage": "model",
                "label": "parent",
                "seconds": 1,
                "peak_memory_bytes": 1,
                "files": files,
                "content": artifact_folder.content_digest(files),
                "lineage": [],
                "record": {"fact": 1},
            },
        )
    return folder


def drop(parent):
    """Drop the only file of the parent."""
    told = {"files": ["x"], "manifest": file_io.read_json(parent / "manifest.json")}
    file_io.write_json(parent / "dropped.json", told)
    (parent / "manifest.json").unlink()
    (parent / "x").unlink()
