"""Steps on small encoders and encoder-decoders."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from prunegrid.models import checkpoint, open_checkpoint
from prunegrid.stages import finetune, transform
from tests.helpers import tiny, tiny_encoders, tiny_translators
from tests.helpers.tuning import masks_of

PLAIN = tiny.prompt(template="{document}")
BERT = {"model_type": "bert", "hidden_size": 64, "intermediate_size": 128}
BERT |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
DEBERTA = {**BERT, "model_type": "deberta-v2", "relative_attention": True}
DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
MODERN = {**BERT, "model_type": "modernbert", "local_attention": 8}
MODERN |= {"global_attn_every_n_layers": 2}
FORMS = (("dense", None), ("pruned", "2:4"))
ENCODERS = {"bert": BERT, "deberta": DEBERTA, "modernbert": MODERN}
LEARNING = {"prompt": PLAIN, "learning_rate": 1e-2, "epochs": 2, "dev_split": "test"}
LEARNING |= {"evaluate_every": 4}


def encoder(folder, name="bert", pattern="2:4", task="masked-lm"):
    return tiny_encoders.weights(folder, pattern, config=ENCODERS[name], task=task)


def run(tmp_path, place, strategy, stage=finetune, **changes):
    """Return (record, folder) of a step on a weights artifact."""
    data, out = tmp_path / "data", tmp_path / f"out-{strategy}"
    if not data.exists():
        tiny.data(data, uneven=True)
    out.mkdir()
    settings = tiny.finetune(strategy, **LEARNING | changes)
    if stage is transform:
        settings = {"strategy": strategy, "double_quant": True, **changes}
    record = stage.run(settings, {"weights": place, "data": data}, out, tiny.job())
    tiny.finish(out, record["weights"])
    return record, out


def require_zeros_kept(place, out):
    kept = masks_of(place)
    for name, _, both in open_checkpoint.load(out).weights():
        assert not both[~kept[name]].any(), name
    assert kept


ITEMS = [{"text": "{{ document }}", "pair": None, "label": "{{ id[-1] in '13579' }}"}]
CLASSES = {"train_split": "train", "train_rows": None, "split": "test", "rows": None}
CLASSES |= {"items": ITEMS, "max_tokens": 32, "epochs": 2, "batch_size": 8}
CLASSES |= {"learning_rate": 1e-2, "metrics": ["acc"], "seed": 1}


def without_weights(folder, kind):
    """Return an artifact of a T5, or of an encoder with a task, whose weight files are gone."""
    made = tiny_translators.weights(folder, "t5") if kind == "t5" else encoder(folder, task=kind)
    for file in checkpoint.weight_files(made):
        file.unlink()
    return made


def hidden_losses(model, rows):
    """Return the loss of each hidden token of rows, each row alone, by plain torch."""
    losses = []
    for row in rows:
        tokens = row.prompt + row.response
        shown = [row.hidden.get(place, token) for place, token in enumerate(tokens)]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([shown])).logits[0]
        for place in row.hidden:
            losses.append(float(cross_entropy(logits[place], torch.tensor(tokens[place]))))
    return losses
