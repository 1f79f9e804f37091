"""The models of the matrix, each prepared as an artifact that steps start from.

A model is drawn from its config and saved by plain transformers, as one would find it on a hub. The
library's own import makes the dense artifact of it; the sparse one is pruned here, by the oracle.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources.tiny import byte_tokenizer
from prunegrid.models import checkpoint
from prunegrid.stages import model as import_stage
from tests.helpers import tiny
from tests.matrix import oracle
from tests.matrix.oracle import Row
from tests.matrix.verdicts import Untried, is_reason

MODELS = Path(__file__).with_name("models.yaml")
VOCABULARY = 260
ROLES = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
EOS = ROLES["eos_token_id"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEMPLATE = "{document}="
SAMPLES, LENGTH = 6, 32
# (rows, letters of a document, letters of a summary) of each split; None: of many lengths.
SPLITS = {"train": (8, 20, 6), "held": (6, 20, 6), "uneven": (6, None, None)}


@functools.cache
def read_models() -> dict[str, dict]:
    """Return name → {task, blocks, config} of all models, in the order of the file."""
    return yaml.safe_load(MODELS.read_text(encoding="utf-8"))


@dataclass
class Subject:
    """One model and what has been made of it.

    Attributes:
        name, task, blocks, config: as `models.yaml` has them.
        scratch: a folder for everything that is made.
        made: what was made once: a result, or the error that it ended in.
    """

    name: str
    task: str
    blocks: list[str]
    config: dict
    scratch: Path
    made: dict = field(default_factory=dict)

    def once(self, key: str, make: Callable[[], object]):
        """Return what `make` gives, or raise what it raised the first time."""
        if key not in self.made:
            try:
                self.made[key] = make()
            except Exception as error:
                self.made[key] = error
        if isinstance(self.made[key], Exception):
            raise self.made[key]
        return self.made[key]

    def new_folder(self, name: str) -> Path:
        """Return a new empty folder."""
        folder = self.scratch / name
        folder.mkdir(parents=True)
        return folder

    def job(self, **memory) -> SimpleNamespace:
        """Return what a stage may ask of its surroundings."""
        job = tiny.job(scratch=self.scratch / "job")
        job.scratch.mkdir(exist_ok=True)
        job.memory |= memory
        job.together = ()
        return job

    def hub(self) -> Path:
        """Return the folder that plain transformers saved."""
        return self.once("hub", self._save)

    def _save(self) -> Path:
        folder = self.new_folder("hub")
        build(self.task, self.config).save_pretrained(folder)
        encoder = self.task == "masked-lm"
        tokenizer = byte_tokenizer(max_length=128, add_bos=False, encoder=encoder)
        tokenizer.save_pretrained(folder)
        return folder

    def plain(self, folder: Path | None = None) -> nn.Module:
        """Return a folder's model (the hub's by default) as plain transformers reads it."""
        return oracle.load(folder or self.hub(), self.task)

    def imported(self) -> tuple[Path, dict]:
        """Return the dense artifact that the library's import made, and its record."""
        return self.once("imported", self._import)

    def _import(self) -> tuple[Path, dict]:
        source = {"kind": "local", "path": str(self.hub())}
        settings = {"source": source, "dtype": "float32", "task": self.task}
        folder = self.new_folder("dense")
        record = import_stage.run(settings, {}, folder, self.job())["weights"]
        tiny.finish(folder, record)
        return folder, record

    def dense(self) -> Path:
        """Return the dense artifact.

        Raises:
            PrunegridError: the import refuses the model.
            Untried: it fails in another way.
        """
        try:
            return self.imported()[0]
        except Exception as error:
            if isinstance(error, PrunegridError) and is_reason(error):
                raise
            raise Untried("the import has a fault") from error

    def sparse(self) -> Path:
        """Return an artifact whose linears are at 2:4 by magnitude, pruned by the oracle."""
        dense = self.dense()
        return self.once("sparse", lambda: self._prune(dense))

    def _prune(self, dense: Path) -> Path:
        model = self.plain(dense)
        linears = oracle.all_linears(model, self.blocks)
        fits = all(oracle.weight_of(linear).shape[1] % 4 == 0 for linear in linears.values())
        for linear in linears.values():
            weight = oracle.weight_of(linear)
            parts = weight.reshape(-1, 4) if fits else weight.reshape(-1, weight.shape[1])
            lowest = parts.abs().argsort(dim=1)[:, : parts.shape[1] // 2]
            weight.copy_(parts.scatter(1, lowest, 0.0).reshape(weight.shape))
        tokenizer = transformers.AutoTokenizer.from_pretrained(dense)
        folder = self.new_folder("sparse")
        pattern = "2:4" if fits else "unstructured"
        tiny.finish(folder, checkpoint.write_plain(model, tokenizer, folder, pattern).record)
        return folder

    def windows(self) -> Tensor:
        """Return the calibration windows, int64 [samples, length]."""
        draw = torch.Generator().manual_seed(1)
        return torch.randint(4, VOCABULARY, (SAMPLES, LENGTH), generator=draw)

    def calibration(self) -> Path:
        """Return a calibration artifact: the windows, and the norms that the oracle measures."""
        return self.once("calibration", self._calibrate)

    def _calibrate(self) -> Path:
        folder, model = self.new_folder("calibration"), self.plain()
        linears = oracle.all_linears(model, self.blocks)
        given = oracle.inputs_of(model, linears, self.windows())
        norms = {name: inputs.square().mean(0).float() for name, inputs in given.items()}
        save_file({"tokens": self.windows()}, folder / "tokens.safetensors")
        save_file(norms, folder / "input_norms.safetensors")
        return folder

    def data(self) -> Path:
        """Return a data artifact with rows of equal and of many lengths, and a text."""
        return self.once("data", self._write_data)

    def _write_data(self) -> Path:
        folder = self.new_folder("data")
        for split in SPLITS:
            rows = [{**row, "text": row["document"]} for row in rows_of(split)]
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
        text = [{"id": "t", "text": words(random.Random(9), SAMPLES * LENGTH + 8)}]
        pq.write_table(pa.Table.from_pylist(text), folder / "text.parquet")
        return folder

    def tokens(self, folder: Path, split: str) -> list[Row]:
        """Return the rows of a split as the model's tokenizer reads them."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        end = [EOS] if self.task == "seq2seq-lm" else []
        # An encoder's tokenizer ends the prompt, which goes on with the response here.
        cut = -1 if self.task == "masked-lm" else None
        return [
            Row(
                tokenizer(TEMPLATE.replace("{document}", row["document"])).input_ids[:cut] + end,
                [*tokenizer(row["summary"], add_special_tokens=False).input_ids, EOS],
            )
            for row in rows_of(split)
        ]


def words(draw: random.Random, length: int) -> str:
    """Return random letters and blanks that neither begin nor end with a blank."""
    letters = [draw.choice(LETTERS + "  ") for _ in range(length)]
    letters[0], letters[-1] = draw.choice(LETTERS), draw.choice(LETTERS)
    return "".join(letters)


def rows_of(split: str) -> list[dict]:
    """Return the rows {id, document, summary} of a split."""
    count, long, short = SPLITS[split]
    draw = random.Random(split)
    return [
        {
            "id": f"{split}{number}",
            "document": words(draw, long or 5 + 4 * number),
            "summary": words(draw, short or 2 + 2 * number),
        }
        for number in range(count)
    ]


def build(task: str, config: dict) -> nn.Module:
    """Return a model with random weights; biases and norms are drawn too, as zeros hide faults."""
    settings = dict(config)
    roles = ROLES | ({"decoder_start_token_id": 0} if task == "seq2seq-lm" else {})
    roles |= {} if "src_vocab_size" in settings else {"vocab_size": VOCABULARY}
    kind = settings.pop("model_type")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        full = transformers.AutoConfig.for_model(kind, **roles, **settings)
        model = getattr(transformers, oracle.AUTO[task]).from_config(full)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.06 * torch.randn_like(parameter)
    return model.eval()


def record_of(folder: Path) -> dict:
    """Return the weights record of an artifact."""
    return file_io.read_json(folder / artifact_folder.MANIFEST)["record"]["weights"]


def subject(name: str, scratch: Path) -> Subject:
    """Return the subject of a name."""
    facts = read_models()[name]
    return Subject(name, facts["task"], facts["blocks"], facts["config"], scratch)
