"""Facts of made-up studies, from which a whole page can be written."""

from __future__ import annotations

from pathlib import Path

from prunegrid.tables import census
from prunegrid.tables.files import typed_frame
from prunegrid.tables.page.part import PageFacts
from prunegrid.tables.schema import CELL, CLIFFS, CONTRASTS, CONTROLS, EXAMPLES, LONG, PAIRS
from tests.helpers import figure_world
from tests.helpers.figure_world import HALF, PAIR, ROUGE, WIKI, around

# Texts that would act if a page took them for HTML or script.
HOSTILE = "</script><script>window.hit = 1</script>"
IMAGE = '<img src="x" onerror="window.hit = 2">'
QUOTES = "'\"`${1}$pareto-cost\u2028"


def demo(**more) -> PageFacts:
    """Return the facts of a study of the demo's shape, with costs, pairs, contrasts, a control."""
    world = figure_world.demo()
    for number, row in enumerate(world.wide):
        row |= {"bytes_packed": 100_000_000 + 7_000_000 * number, "file_bytes": 269_000_000}
        row |= {"parameters": 134_000_000, "decode_tokens_per_second": 20.0 + number}
    return of(world, **more)


def crowded() -> PageFacts:
    """Return the facts of a study nearly all of whose models cost the same, by any cost."""
    world = figure_world.demo()
    for number, row in enumerate(world.wide):
        row["bytes_packed"] = 268_000_000 if number == 0 else 161_000_000 + 1000 * number
    return of(world)


def grid() -> PageFacts:
    """Return the facts of two models at rising sparsities, each in three arms and two seeds."""
    world = figure_world.World(title="An iterated grid of SmolLM2-135M")
    for model in ("smollm2-135m", "a-model-of-a-rather-long-name-1.5b-base"):
        world.cell(
            "dense", "none", {ROUGE: [around(0.3)] * 2, WIKI: [around(20.0)] * 2}, model=model
        )
        for arm, loss in (("one-shot", 3.0), ("one-shot-tuned", 1.5), ("iterative", 1.1)):
            for level in (0.3, 0.5, 0.7, 0.8):
                worse = 1 + loss * level**3
                scores = {ROUGE: [around(0.3 / worse)] * 2, WIKI: [around(20.0 * worse)] * 2}
                facts = {"sparsity_target": level, "pattern": "unstructured", "arm": arm}
                facts |= {"model": model, "bytes_packed": int(1e9 * (1 - level))}
                world.cell(f"w{level}", "none" if arm == "one-shot" else arm, scores, **facts)
    return of(world.control("lead-60", *ROUGE, around(0.35)))


def counted() -> PageFacts:
    """Return the facts of a census of three models."""
    plan = demo().plan | {"kind": "census", "study": "counted", "title": "", "edges": [0.1]}
    names = ("smollm2-135m", "gpt2", "a-model-of-a-rather-long-name-1.5b-base")
    plan |= {"cells": plan["cells"][:1] * len(names), "zeros": "apart"}
    rows = []
    for name in names:
        about = {"study": "counted", "model": name, "prune": "dense", "finetune": "none"}
        about |= {"status": "ok", "parameters": 100}
        for label, share in (("0", 0.1), ("(0, 0.1)", 0.5), ("[0.1, inf)", 0.4)):
            counts = {"bin": label, "share": share, "count": int(100 * share)}
            rows += [about | counts | {"group": group} for group in ("all", "without embeddings")]
            rows += [
                about | counts | {"group": "block", "stack": "a", "block": i, "depth": i / 12}
                for i in range(12)
            ]
    return PageFacts(plan, typed_frame(rows, census.COLUMNS), typed_frame([], LONG))


def hostile(results: Path = Path("results")) -> PageFacts:
    """Return the facts of a study whose every text is hostile, with a failed and a missing cell."""
    world = figure_world.World(title=HOSTILE + IMAGE)
    score = (HOSTILE, IMAGE)
    names = {"model": IMAGE, "dataset": QUOTES, "bytes_packed": 10}
    world.cell("dense", "none", {score: around(0.3), WIKI: around(20.0)}, **names)
    pruned = {**names, **HALF, "bytes_packed": 6, "method": HOSTILE}
    world.cell(HOSTILE, IMAGE, {score: around(0.2), WIKI: around(30.0)}, **pruned)
    lost = {**names, **PAIR, "status": "failed", "reason": HOSTILE + IMAGE}
    world.cell("failing", "none", **lost)
    world.cell("unreached", "none", **lost | {"status": "missing", "reason": QUOTES})
    world.control(HOSTILE, *score, around(0.4), dataset=QUOTES)
    return of(world, notes=[HOSTILE], results=results)


def of(world: figure_world.World, **more) -> PageFacts:
    """Return the facts of a world's tables."""
    plan, wide, tall = world.tables()
    step = {"path": "results/artifacts/model/0", "key": "0", "stage": "model"}
    step |= {"label": "model", "status": "results/status/0"}
    columns = [{name: row[name] for name in CELL} for row in world.wide]
    cells = [{"columns": one, "chain": [step], "ancestors": [step]} for one in columns]
    plan = plan | {"key": "0" * 16, "lock": "ab" * 32, "bootstrap_seed": 0, "means": {}}
    plan |= {"cells": cells, "contrasts": [], "published": None}
    known = {"frames": frames(world), "notes": [], "known": []}
    return PageFacts(plan, wide, tall, **known | more)


def frames(world: figure_world.World) -> dict:
    """Return the tables beside a world's: pairs and contrasts with the first cell, a control."""
    first, *others = dict.fromkeys((row["prune"], row["finetune"]) for row in world.wide)
    by_name = {(r["prune"], r["finetune"], r["split"], r["metric"]): r for r in world.long[:-1]}
    pairs, contrasts = [], []
    for split, metric in dict.fromkeys((row["split"], row["metric"]) for row in world.long):
        for other in others:
            a, b = by_name.get((*first, split, metric)), by_name.get((*other, split, metric))
            if a and b:
                ratio = metric.startswith("ppl")
                value = a["value"] / b["value"] if ratio else a["value"] - b["value"]
                row = {"study": "s", "split": split, "metric": metric, "n": 16, "value": value}
                row |= {"a": " / ".join(first), "b": " / ".join(other)}
                row |= {"effect": "ratio" if ratio else "difference"}
                row |= {"low": value - 0.05, "high": value + 0.05}
                place = {name: a[name] for name in ("model", "dataset")}
                pairs.append(row | place)
                verdict = {"contrast": other[0], "verdict": "worse", "p_holm": 0.01}
                titles = {side: f"{a['model']} / {a['dataset']} / {row[side]}" for side in "ab"}
                empty = {column.name: None for column in CONTRASTS}
                contrasts.append(empty | row | titles | verdict)
    control = {column.name: None for column in CONTROLS} | {"role": "gaming", "study": "s"}
    control |= {n: world.long[-1][n] for n in ("name", "dataset", "split", "metric", "value")}
    control |= {"beats": True, "flagged": True, "difference": 0.1, "best": "x"}
    control |= {"difference_low": 0.05, "difference_high": 0.15}
    return {
        "pairs.": typed_frame(pairs, PAIRS),
        "contrasts.": typed_frame(contrasts[:4], CONTRASTS),
        "controls.": typed_frame([control], CONTROLS),
        "examples.": typed_frame([], EXAMPLES),
        "cliffs.": typed_frame([], CLIFFS),
    }
