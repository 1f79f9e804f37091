"""BERTScore F1 of each example (Zhang et al., 2020), by `bert_score`'s matching, on a local model.

P = mean over predicted tokens of the largest cosine with any reference token, R the same the other
way round, F1 = 2PR/(P+R); token vectors are the outputs of one layer. No idf weights, no rescaling
with a baseline.

Deviations from `bert_score.score`, each because 0.3.13 fails or differs between runs there:
- a prediction without a token is not scored (null);
- the model is read from a folder as its config says (the package goes by the letters of the path),
  in float32, and must hold all of its weights;
- texts are cut at the model's positions where its tokenizer names no limit;
- the order of batches depends on the texts alone, not on Python's hash seed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from prunegrid.common.file_io import file_sha256
from prunegrid.evaluation.setting_checks import require_number

SETTINGS = {"layer": None, "batch_size": 16}
CITE = ("zhang2020bertscore",)
COLUMNS = {"bertscore": {"higher_is_better": True}}
MEANINGS = {
    "layer": "The layer of the encoder whose vectors are compared. It must be set.",
    "batch_size": "Texts that are encoded at once.",
    "bertscore": "About 0.5 to 1, by model: F1 of token vectors matched by their cosine.",
}
NEEDS_MODEL = True
PACKAGES = ("bert-score", "torch", "transformers")

# Tokenizers that name no limit of their own carry a huge number.
_NO_LIMIT = 1_000_000
_SPECIAL_TOKENS = 2


class Encoder:
    """A model folder's encoder up to one layer, with its tokenizer."""

    def __init__(self, folder: str, layer: int, device: str) -> None:
        import torch

        from prunegrid.models.forward import is_encoder_decoder, max_positions
        from prunegrid.models.loading import import_models

        import_models()
        from transformers import AutoModel, AutoTokenizer

        self.device, self.layer = device, layer
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if self.tokenizer.num_special_tokens_to_add() != _SPECIAL_TOKENS:
            raise ValueError("the tokenizer does not put one token before and one behind a text")
        model, loading = AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
        missing = sorted(name for name in loading["missing_keys"] if "pooler" not in name)
        if missing:
            raise ValueError(f"the model folder lacks weights: {', '.join(missing[:3])} …")
        if is_encoder_decoder(model):
            model = model.get_encoder()
        depth = model.config.num_hidden_layers
        if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= depth:
            raise ValueError(f"layer is {layer!r}; expected 1 to {depth}, this model's layers")
        stack = getattr(getattr(model, "encoder", None), "layer", None)
        if stack is not None:
            model.encoder.layer = stack[:layer]  # the layers above it need not run
        self.model = model.eval().to(device)
        positions = max_positions(model) or _NO_LIMIT
        self.limit = min(self.tokenizer.model_max_length, positions)

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of a text, special tokens included, not cut."""
        return self.tokenizer(text.strip(), verbose=False)["input_ids"]

    def cut(self, ids: list[int]) -> list[int]:
        """Return token ids cut to the model's limit; the last special token stays."""
        return ids if len(ids) <= self.limit else ids[: self.limit - 1] + ids[-1:]

    def embed(self, rows: list[list[int]]):
        """Return one float32 [tokens, width] tensor of token vectors for each row of ids."""
        import torch

        longest = max(len(ids) for ids in rows)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            states = self.model(
                ids.to(self.device), attention_mask=mask.to(self.device), output_hidden_states=True
            ).hidden_states[self.layer]
        return [state[: len(row)].cpu() for state, row in zip(states, rows, strict=True)]


def compute(predictions, references, *, model_path, device, layer, batch_size):
    """Return BERTScore F1 per example."""
    from prunegrid.common.gc_pause import importing

    with importing("bert_score"):
        from bert_score.utils import get_hash

    require_number("batch_size", batch_size, 1)
    if layer is None:
        raise ValueError("layer is not set; expected the layer whose outputs are compared")
    encoder = Encoder(str(model_path), layer, device)
    ids = {text: encoder.tokens(text) for text in {*predictions, *references}}
    pairs = list(zip(predictions, references, strict=True))
    scores = _scores(encoder, pairs, ids, batch_size)
    sha256 = _weights_sha256(Path(model_path))
    name = f"{encoder.model.config.model_type}-{sha256[:16]}"
    return {
        "bertscore": [scores.get(pair) for pair in pairs],
        "hash": get_hash(name, layer, False, False, False, encoder.tokenizer.is_fast),
        "model_sha256": sha256,
        "layer": layer,
        "token_limit": encoder.limit,
        "cut_predictions": sum(len(ids[text]) > encoder.limit for text in predictions),
        "cut_references": sum(len(ids[text]) > encoder.limit for text in references),
    }


def _scores(encoder: Encoder, pairs: list, ids: dict, batch_size: int) -> dict:
    """Return {(prediction, reference): F1} of the pairs in which both have a token."""
    from tqdm.auto import tqdm

    full = {pair for pair in pairs if min(len(ids[text]) for text in pair) > _SPECIAL_TOKENS}
    order = sorted(full, key=lambda pair: (max(len(ids[text]) for text in pair), pair))
    scores = {}
    for start in tqdm(range(0, len(order), batch_size), "bertscore", disable=None):
        batch = order[start : start + batch_size]
        sides = [encoder.embed([encoder.cut(ids[pair[i]]) for pair in batch]) for i in (0, 1)]
        for pair, prediction, reference in zip(batch, *sides, strict=True):
            scores[pair] = _f1(prediction, reference)
    return scores


def _weights_sha256(folder: Path) -> str:
    """Return one hex SHA-256 over the names and bytes of the folder's weight files."""
    paths = sorted(folder.glob("*.safetensors"))
    listing = "".join(f"{path.name} {file_sha256(path)}\n" for path in paths)
    return hashlib.sha256(listing.encode()).hexdigest()


def _f1(prediction, reference) -> float:
    """Return BERTScore F1 of two [tokens, width] tensors; the special tokens weigh nothing."""
    import torch
    from bert_score.utils import greedy_cos_idf

    sides = []
    for vectors in (reference, prediction):
        weights = torch.ones(1, len(vectors))
        weights[0, [0, -1]] = 0
        # The matching divides its arguments in place: it gets a copy.
        sides += [vectors[None].clone(), torch.ones(1, len(vectors), dtype=torch.long), weights]
    return float(greedy_cos_idf(*sides)[2])
