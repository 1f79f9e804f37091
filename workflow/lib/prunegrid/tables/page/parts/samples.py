"""The part on samples: what each model wrote for the same documents, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from prunegrid.tables import examples
from prunegrid.tables.page.part import PageFacts, Part

ORDER = 60
TITLE = "Samples: what the models wrote"
OUTPUTS = 12  # side by side for one document
LONGEST = 4000  # characters of a text: one without spaces is not cut at words
BYTES = 500_000  # of the whole part
# What was done to a model, by whether it was (pruned, tuned), in the order of the page.
_ROLES = {
    (False, False): "dense",
    (True, False): "pruned",
    (True, True): "pruned and tuned",
    (False, True): "tuned, not pruned",
}
_ORDER = (*_ROLES.values(), "control")


def part(facts: PageFacts) -> Part | None:
    """Return the part, None for a study whose cells wrote nothing (yet)."""
    shown, size, dropped, hidden = [], 0, 0, 0
    for example in examples.drawn(facts.plan, facts.scored):
        outputs = _chosen(example.outputs)
        text = _document(example, outputs, is_open=not shown)
        if size + len(text.encode()) > BYTES:
            dropped += 1
            continue
        shown.append(text)
        size += len(text.encode())
        hidden = max(hidden, len(example.outputs) - len(outputs))
    if not shown:
        return None
    notes = [f"{dropped} more documents are left out."] if dropped else []
    notes += [f"Up to {hidden} more outputs of each document are left out."] if hidden else []
    notes += [f"{facts.plan['study']}.examples.md has all of them."] if notes else []
    return Part(
        "samples",
        TITLE,
        "The same few documents, drawn by the seed, with their reference and what each model "
        "wrote. A label names the first fault that a rule found; none says that no rule found one.",
        html="".join(shown) + (f"<p>{escape(' '.join(notes))}</p>" if notes else ""),
    )


def _role(entry: examples.Scored) -> str:
    """Return what was done to the model that wrote a text, or that no model did."""
    if entry.kind != "cell":
        return "control"
    *_, prune, finetune = entry.name.split(" / ")
    return _ROLES[prune != "dense", finetune != "none"]


def _chosen(outputs: Sequence[tuple]) -> list[tuple]:
    """Return at most OUTPUTS of the outputs, models before controls, ordered by role."""
    by_role: dict[str, list[tuple]] = {role: [] for role in _ORDER}
    for output in outputs:
        by_role[_role(output[0])].append(output)
    ranked = [(i, role) for role, own in by_role.items() for i in range(len(own))]
    kept = set(sorted(ranked, key=lambda place: (place[1] == "control", place[0]))[:OUTPUTS])
    return [by_role[role][i] for i, role in ranked if (i, role) in kept]


def _document(example: examples.Example, outputs: Sequence[tuple], *, is_open: bool) -> str:
    """Return one document with its reference and the outputs, to be folded."""
    title = f"{example.dataset}, {example.split}: {example.id}"
    document = "(its artifact is gone)" if example.document is None else example.document
    cards = [_card("Document", "", document, examples.DOCUMENT_WORDS)]
    cards.append(_card("Reference", "", example.reference, examples.OUTPUT_WORDS))
    for entry, text, scores in outputs:
        about = ", ".join([_role(entry), *examples.facts_of(scores)])
        label = scores["label"]
        cards.append(_card(entry.name, about, text, examples.OUTPUT_WORDS, label))
    return (
        f'<details class="sample"{" open" if is_open else ""}><summary>{escape(title)}</summary>'
        f'<div class="sample-texts">{"".join(cards)}</div></details>'
    )


def _card(title: str, about: str, text: str, words: int, label: str | None = None) -> str:
    """Return one text below its title; `label` is of the rules, "none" where no fault was found."""
    text = examples.shortened(text, words)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} [… cut]"
    fault = ' data-fault="yes"' if label not in (None, "none") else ""
    return (
        f"<article{fault}><h4>{escape(title)}</h4><p>{escape(about)}</p>"
        f"<pre>{escape(text)}</pre></article>"
    )
