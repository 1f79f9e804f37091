"""Made-up finished cells whose differences are known."""

from __future__ import annotations

import numpy
import pandas

from prunegrid.common.file_io import write_json
from prunegrid.tables import contrasts
from prunegrid.tables.files import typed_frame
from prunegrid.tables.schema import COLUMNS, LONG

N = 40


class World:
    """Cells with scores and losses of N items; every cell's items are as hard as the others'."""

    def __init__(self, folder):
        self.folder, self.cells, self.rows, self.tall = folder, [], [], []
        draw = numpy.random.default_rng(0)
        self.hard, self.noise = draw.normal(0.5, 0.1, N), draw.normal(0, 0.01, (9, N))

    def cell(self, prune, shift, *, seed=None, failed=None, documents="d", noise=True, kl=None):
        """Add a cell; `kl` is (its mean distance from dense, whether it is near it)."""
        number = len(self.cells)
        row = {column.name: None for column in COLUMNS}
        row |= {"model": "m", "dataset": "x", "prune": prune, "finetune": "none", "seed": seed}
        row |= {"status": "failed" if failed else "ok", "reason": failed, "test_rouge1": 1.0}
        values = self.hard + shift + (self.noise[number] if noise else 0)
        texts, losses = self.folder / f"t{number}", self.folder / f"p{number}"
        texts.mkdir()
        losses.mkdir()
        ids = [f"{documents}{i}" for i in range(N)]
        pandas.DataFrame({"id": ids, "rouge1": values}).to_parquet(texts / "scores.parquet")
        frame = {"window": range(N), "tokens": 15, "loss": -values * 15, "units": 15}
        pandas.DataFrame(frame).to_parquet(losses / "windows.parquet")
        record = {"metric": "ppl_16_nonoverlap", "tokens_sha256": documents}
        write_json(losses / "manifest.json", {"record": record})
        texts = {"test": {"scores": {"path": texts}}}
        self.cells.append({"texts": texts, "perplexities": {"wiki": {"path": losses}}, "tasks": {}})
        self.rows.append(row)
        for split, metric, up in (("test", "rouge1", True), ("wiki", "ppl_16_nonoverlap", False)):
            entry = {column.name: row.get(column.name) for column in LONG}
            entry |= {"kind": "cell", "split": split, "metric": metric, "higher_is_better": up}
            self.tall.append(entry | {"at_chance": False})
        if kl is not None:
            self.tall.append({**self.tall[-1], "split": "apart", "metric": "kl"})
            self.tall[-1]["near_dense"] = kl[1]
            self.cells[-1]["tasks"] = {"apart": {"path": self._distances(number, kl[0])}}
        return self

    def _distances(self, number, mean):
        place = self.folder / f"k{number}"
        place.mkdir()
        items = {"metric": "kl", "id": [str(i) for i in range(N)], "weight": 15.0}
        items["value"] = 15 * (mean + self.noise[number])
        pandas.DataFrame(items).to_parquet(place / "scores.parquet")
        record = {"version": None, "items_sha256": "windows"}
        write_json(place / "manifest.json", {"record": record})
        return place

    def verdicts(self, *entries, **named):
        made = [{"metric": None, "margin": None, "split": "wiki", **e} for e in entries]
        for number, entry in enumerate(made):
            entry.setdefault("name", f"c{number}")
        plan = {"study": "s", "cells": self.cells, "contrasts": made, "bootstrap_seed": 0}
        plan["means"] = {}
        tall = typed_frame(self.tall, LONG)
        return contrasts.contrast_rows(plan, self.rows, tall, **named)
