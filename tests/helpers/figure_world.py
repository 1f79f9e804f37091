"""Tables of made-up studies, as the figure reads them."""

from __future__ import annotations

from prunegrid.tables.files import typed_frame
from prunegrid.tables.schema import COLUMNS, LONG

WIKI = ("wikipedia-512", "ppl_512_nonoverlap")
ROUGE = ("test", "rougeLsum")
DENSE = {"prune": "dense", "method": "dense"}


class World:
    """The rows of a study, cell by cell."""

    def __init__(self, **plan):
        self.plan = {"study": "s", "title": "A title"} | plan
        self.wide, self.long = [], []

    def cell(self, prune="dense", finetune="none", scores=None, **facts):
        """Add a cell; a score is a value, (value, low, high), or a list of values by seed."""
        scores = scores or {}
        seeds = max([len(s) for s in scores.values() if isinstance(s, list)], default=1)
        row = {column.name: None for column in COLUMNS}
        row |= {"study": "s", "model": "m", "dataset": "d", "status": "ok", "prune": prune}
        row |= {"finetune": finetune, "method": "dense" if prune == "dense" else "wanda"}
        row |= {"strategy": "none" if finetune == "none" else "full"}
        row |= {"loss_on": None if finetune == "none" else "response", "seed": None}
        row |= facts
        target = row["sparsity_target"]
        row.setdefault("sparsity_effective", None)
        if row["sparsity_effective"] is None and row["status"] == "ok":
            row["sparsity_effective"] = target or 0.0
        for seed in range(seeds):
            own = row | ({"seed": seed} if seeds > 1 else {})
            self.wide.append(own)
            for (split, metric), given in scores.items():
                value = given[seed] if isinstance(given, list) else given
                self.score("cell", own, split, metric, value)
        return self

    def control(self, name, split, metric, value, dataset="d"):
        """Add a baseline."""
        return self.score("baseline", {"name": name, "dataset": dataset}, split, metric, value)

    def score(self, kind, row, split, metric, value):
        """Add a row of the long table."""
        value, low, high = value if isinstance(value, tuple) else (value, None, None)
        entry = {column.name: row.get(column.name) for column in LONG}
        name = " / ".join(str(row.get(key)) for key in ("model", "prune", "finetune"))
        entry |= {"kind": kind, "name": row.get("name", name), "split": split, "metric": metric}
        entry |= {"value": value, "low": low, "high": high, "n": 16}
        entry["higher_is_better"] = not metric.startswith(("ppl", "word_perplexity"))
        self.long.append(entry)
        return self

    def last(self, **facts):
        """Set facts of the last score, such as chance or harness."""
        self.long[-1] |= facts
        return self

    def tables(self):
        """Return (plan, wide, tall)."""
        return self.plan, typed_frame(self.wide, COLUMNS), typed_frame(self.long, LONG)


def around(value, share=0.08):
    """Return (value, low, high) with an interval of plus and minus a share."""
    return (value, value * (1 - share), value * (1 + share))


# prune, finetune, facts, rougeLsum, perplexity: the demo's shape.
HALF = {"sparsity_target": 0.5, "pattern": "unstructured"}
PAIR = {"sparsity_target": 0.5, "pattern": "2:4"}
DEMO = [
    ("dense", "none", {}, 0.345, 19.6),
    ("dense", "demo-full", {}, 0.344, 19.1),
    ("dense", "demo-qlora", {}, 0.319, 19.9),
    ("wiki-wanda-50", "none", HALF, 0.074, 44.4),
    ("wiki-wanda-50", "demo-qlora", HALF, 0.195, 41.0),
    ("wiki-wanda-4of8", "demo-qlora", {**PAIR, "pattern": "4:8"}, 0.176, 66.0),
    ("wiki-wanda-2of4", "demo-qlora", PAIR, 0.159, 110.0),
    ("magnitude-2of4", "demo-qlora", {**PAIR, "method": "magnitude"}, 0.100, 1095.0),
    ("wiki-sparsegpt-2of4", "demo-qlora", {**PAIR, "method": "sparsegpt"}, 0.185, 82.0),
]


def demo():
    """Return a world of the demo's shape: texts and perplexities, a control."""
    world = World(title="Table 3 in small - SmolLM2-135M on AclSum")
    for prune, finetune, facts, rouge, perplexity in DEMO:
        scores = {ROUGE: around(rouge, 0.1), WIKI: around(perplexity)}
        world.cell(prune, finetune, scores, model="smollm2-135m", **facts)
    return world.control("lead-60", *ROUGE, around(0.355, 0.1))
