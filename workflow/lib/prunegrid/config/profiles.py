"""The profiles that a config may hold: one class a section, one field a key.

Every field is checked by pydantic; unknown keys are errors. What needs other sections (names) is
checked in `prunegrid.config.load`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from prunegrid import modules
from prunegrid.errors import PrunegridError

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Rate = Annotated[float, Field(gt=0)]


class Profile(BaseModel):
    """Base: unknown keys are errors, values are not coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Model(Profile):
    """A model: where its weights come from."""

    source: str
    revision: str | None = None
    file: str | None = None
    sha256: str | None = None
    task: Literal["causal-lm", "seq2seq-lm", "masked-lm", "encoder"] = "causal-lm"
    config: dict[str, Any] | None = None
    seed: NonNegative = 0
    note: str | None = None

    @model_validator(mode="after")
    def _fits_source(self) -> Model:
        if self.source.startswith("pypi:") and not (self.file and self.sha256):
            raise ValueError("a pypi: source needs `file` (inside the wheel) and its `sha256`")
        if (self.source == "random:") != (self.config is not None):
            raise ValueError(
                "`config` (with model_type) belongs to a random: source, and only to it"
            )
        return self


class Dataset(Profile):
    """A data set: its source, the columns that matter, the prompt, and how inputs are cut."""

    source: str
    revision: str | None = None
    subset: str | None = None
    files: dict[str, str] | str | None = None
    sha256: dict[str, str] | str | None = None
    format: Literal["jsonl", "parquet", "csv", "text", "mediawiki"] | None = None
    kind: Literal["summaries", "text"] = "summaries"
    columns: dict[Literal["id", "document", "summary", "text"], str | list[str]]
    splits: dict[Name, str]
    prompt: str = "{document}\n\nSummary:\n"
    chat: bool = False
    end: str = ""
    max_words: Positive | None = None
    max_tokens: Positive | None = None
    max_summary_tokens: Positive | None = None

    @model_validator(mode="after")
    def _whole(self) -> Dataset:
        wanted = {"summaries": {"document", "summary"}, "text": {"text"}}[self.kind]
        missing = wanted - set(self.columns)
        if missing:
            raise ValueError(f"columns lacks {sorted(missing)}; kind {self.kind} needs them")
        if self.kind == "summaries" and self.prompt.count("{document}") != 1:
            raise ValueError("prompt must hold {document} exactly once")
        if self.source.startswith("pypi:") and not (self.files and self.sha256):
            raise ValueError("a pypi: source needs `files` (inside the wheel) and their `sha256`")
        return self


class Calibration(Profile):
    """Calibration samples: windows of tokens drawn from a data set."""

    dataset: str
    split: str
    samples: Positive = 128
    length: Annotated[int, Field(ge=2)] = 2048
    column: Literal["text", "document"] = "text"
    join: bool = False


class Prune(Profile):
    """A pruning step; keys beyond these are settings of its method."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    method: str
    pattern: str = "unstructured"
    sparsity: Fraction | None = None
    scope: Literal["row", "layer", "model"] | None = None
    calibration: str | None = None
    propagation: Literal["sequential", "single-pass", "dense"] = "sequential"
    update: str | None = None
    update_settings: dict[str, Any] = {}
    allocation: str = "uniform"
    allocation_settings: dict[str, Any] = {}
    include: list[str] = []
    biases: bool = False

    @field_validator("pattern", mode="before")
    @classmethod
    def _quoted(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            text = f"{value // 60}:{value % 60}"
            raise ValueError(f'YAML reads {text} as the number {value}: quote it, "{text}"')
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Prune:
        if self.method == "dense":
            extra = self.model_fields_set - {"method"} | set(self.model_extra or {})
            if extra:
                raise ValueError(f"method dense prunes nothing; remove {sorted(extra)}")
            return self
        if self.update is None and self.update_settings:
            raise ValueError("`update_settings` belong to an `update`; name it or remove them")
        if self.pattern == "unstructured":
            if self.sparsity is None:
                raise ValueError("an unstructured pattern needs `sparsity` (0 ≤ sparsity ≤ 1)")
            if self.scope == "model" and self.allocation != "uniform":
                raise ValueError("scope model ranks all linears together; remove `allocation`")
            if self.include and self.allocation != "uniform":
                raise ValueError("`allocation` knows linears of blocks only; remove `include`")
            return self
        keep, colon, group = self.pattern.partition(":")
        if not (colon and keep.isdigit() and group.isdigit()):
            raise ValueError(
                f'pattern is "{self.pattern}"; expected "unstructured" or "N:M", as in "2:4"'
            )
        if not 0 < int(keep) < int(group):
            raise ValueError(
                f'pattern is "{self.pattern}"; N:M keeps N of every M, so 0 < N < M, as in "2:4"'
            )
        if self.biases:
            raise ValueError(f"pattern {self.pattern} is of weights; remove `biases`")
        if self.sparsity is not None:
            raise ValueError(f"pattern {self.pattern} sets the sparsity itself; remove `sparsity`")
        for key in ("scope", "allocation"):
            if key in self.model_fields_set:
                raise ValueError(f"pattern {self.pattern} has no {key}; remove `{key}`")
        return self


# Keys that only some strategies use, which say so in KEYS; all others are of training.
OF_STRATEGY = frozenset(
    ("sparsity", "adapter", "rank", "alpha", "dropout", "targets", "quantization", "double_quant")
) | {"precision", "calibration"}


class Finetune(Profile):
    """A fine-tuning step; keys beyond these are settings of its strategy."""

    model_config = ConfigDict(extra="allow")

    strategy: str
    split: str = "train"
    rows: Positive | None = None
    dev_split: str | None = None
    dev_rows: Positive | None = None
    evaluate_every: Positive | None = None
    patience: Positive | None = None
    epochs: Positive = 1
    max_steps: Positive | None = None
    token_budget: Positive | None = None
    learning_rate: Rate = 1e-4
    learning_rates: list[Rate] | None = None
    batch_size: Positive = 4
    accumulate: Positive = 1
    warmup_steps: NonNegative = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["linear", "constant"] = "linear"
    max_grad_norm: Rate = 1.0
    autocast: bool = False
    loss_on: Literal["response", "all"] = "response"
    gradient_checkpointing: bool = False
    sparsity: Literal["keep", "free"] = "keep"
    adapter: Literal["merged", "unmerged", "unmasked", "masked-after"] | None = None
    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | list[str] = "all-linear"
    quantization: Literal["nf4", "int8"] = "nf4"
    double_quant: bool = True
    precision: Literal["nf4", "int8", "bfloat16", "float32"] | None = None
    calibration: str | None = None

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            modules.strategy_facts(value)
        except PrunegridError as error:
            raise ValueError(f"{error.what}; {error.remedy}") from error
        return value

    def unused(self) -> set[str]:
        """Return the keys that its strategy does not use."""
        facts, fields = modules.strategy_facts(self.strategy), set(type(self).model_fields)
        training = fields - OF_STRATEGY if facts["TRAINS"] else set()
        return fields - training - {"strategy", *facts["KEYS"]}

    @property
    def way(self) -> str | None:
        """What becomes of its adapter: `adapter`, or the strategy's first; None without one."""
        return self.adapter or next(iter(modules.strategy_facts(self.strategy)["ADAPTERS"]), None)

    @property
    def plain(self) -> bool:
        """Whether it ends in plain weights, which further steps can take."""
        said = modules.strategy_facts(self.strategy)["PLAIN"]
        values = {"adapter": self.way, "precision": self.precision}
        return all(values[key] in allowed for key, allowed in said.items())

    @model_validator(mode="after")
    def _no_idle_keys(self) -> Finetune:
        facts = modules.strategy_facts(self.strategy)
        idle = self.unused() & self.model_fields_set
        if idle:
            raise ValueError(f"strategy {self.strategy} does not use {sorted(idle)}; remove them")
        for key in {"precision", "calibration"} & set(facts["KEYS"]):
            if getattr(self, key) is None:
                raise ValueError(f"strategy {self.strategy} needs `{key}`")
        if self.sparsity == "free" and self.way in ("unmasked", "masked-after"):
            raise ValueError(f"adapter {self.way} and sparsity: free exclude each other")
        if self.precision in ("bfloat16", "float32", "int8") and "double_quant" in (
            self.model_fields_set
        ):
            raise ValueError(f"precision {self.precision} does not use `double_quant`; remove it")
        return self

    @model_validator(mode="after")
    def _training_fits(self) -> Finetune:
        needs = {
            "dev_rows": "dev_split",
            "evaluate_every": "dev_split",
            "patience": "evaluate_every",
            "learning_rates": "dev_split",
        }
        for key, needed in needs.items():
            if getattr(self, key) is not None and getattr(self, needed) is None:
                raise ValueError(f"`{key}` needs `{needed}`; add it or remove `{key}`")
        if self.dev_split == self.split:
            raise ValueError(f"dev_split is '{self.split}', which is learned; name another")
        given = self.model_fields_set
        if self.token_budget is not None and {"epochs", "max_steps"} & given:
            raise ValueError("`token_budget` takes the place of `epochs` and `max_steps`")
        if self.learning_rates is not None:
            if "learning_rate" in given:
                raise ValueError("give `learning_rate`, or `learning_rates` to choose from")
            if len(set(self.learning_rates)) < max(2, len(self.learning_rates)):
                raise ValueError("`learning_rates` lists at least two, each once, to choose from")
        return self


class Generation(Profile):
    """How predictions are decoded."""

    max_new_tokens: Positive
    batch_size: Positive = 8
    do_sample: bool = False
    temperature: Rate = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    num_beams: Positive = 1
    stop: list[str] = []
    reference_tokens: Positive | None = None
    cache_dequantized: bool = False

    @model_validator(mode="after")
    def _no_idle_keys(self) -> Generation:
        idle = {"temperature", "top_p"} & self.model_fields_set
        if idle and not self.do_sample:
            raise ValueError(f"greedy decoding does not use {sorted(idle)}; set do_sample: true")
        return self


class Metric(Profile):
    """A metric of texts; keys beyond these are settings of its module."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    module: str
    model: str | None = None


class Texts(Profile):
    """An evaluation of texts: predictions of summaries, scored."""

    kind: Literal["texts"]
    splits: Annotated[list[str], Field(min_length=1)]
    rows: Positive | None = None
    generation: str
    metrics: Annotated[list[str], Field(min_length=1)]
    baselines: dict[str, Baseline] = {}


class Baseline(Profile):
    """A text without a model, scored beside the cells; keys beyond these are its method's."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    method: str


class Perplexity(Profile):
    """An evaluation of a model: perplexity of windows of a text."""

    kind: Literal["perplexity"]
    dataset: str
    split: str
    protocol: Literal["nonoverlap", "stride", "words"] = "nonoverlap"
    window: Annotated[int, Field(ge=2)] = 2048
    stride: Positive | None = None
    max_windows: Positive | None = None
    special_tokens: bool = False
    cache_dequantized: bool = False

    @model_validator(mode="after")
    def _stride_fits(self) -> Perplexity:
        if (self.protocol == "stride") != (self.stride is not None):
            raise ValueError("`stride` belongs to protocol: stride, and only to it")
        if self.protocol == "words" and self.special_tokens:
            raise ValueError("protocol words begins every document by itself; remove it")
        return self


class Efficiency(Profile):
    """How time and memory are measured, and whether sizes on disk are."""

    warmup: NonNegative = 10
    repetitions: Positive = 30
    prompt_tokens: Positive = 512
    new_tokens: Annotated[int, Field(ge=2)] = 32
    batch_size: Positive = 1
    cache_dequantized: bool = False
    sizes: bool = False


class Expected(Profile):
    """A value that a study's cells are known to have; the table fails where they do not."""

    cells: dict[str, Any]
    column: str
    value: float
    within: Annotated[float, Field(gt=0)]
    source: str


class Side(Profile):
    """One side of a contrast: the cells (that differ by their seeds alone) that have all of it."""

    model: str | None = None
    dataset: str | None = None
    prune: str | None = None
    finetune: str | None = None
    seed: NonNegative | list[NonNegative] | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Side:
        if not self.model_fields_set or None in self.model_dump(exclude_unset=True).values():
            raise ValueError("name some of model, dataset, prune, finetune, seed")
        return self


class Contrast(Profile):
    """Two cells of a study whose difference is tested, with a verdict on `a`."""

    name: Name
    a: Side
    b: Side
    split: str
    metric: str | None = None
    margin: Rate | None = None


class Study(Profile):
    """A grid of cells and what is measured on each."""

    title: str = ""
    dataset: str
    grid: dict[str, Any] | list[dict[str, Any]]
    include: list[dict[str, Any]] = []
    exclude: list[dict[str, Any]] = []
    evaluations: Annotated[list[str], Field(min_length=1)]
    efficiency: str | None = None
    expected: list[Expected] = []
    contrasts: Annotated[list[Contrast], Field(max_length=8)] = []


Texts.model_rebuild()

SECTIONS: dict[str, Any] = {
    "models": Model,
    "datasets": Dataset,
    "calibration": Calibration,
    "prune": Prune,
    "finetune": Finetune,
    "generation": Generation,
    "metrics": Metric,
    "evaluations": Annotated[Texts | Perplexity, Field(discriminator="kind")],
    "efficiency": Efficiency,
    "studies": Study,
}


class Memory(Profile):
    """How calibration and pruning use memory; it changes no number."""

    model: Literal["whole", "by-block"] = "whole"
    activations: Literal["device", "cpu", "disk"] = "device"
    chunk: Positive = 8


class Training(Profile):
    """How a training run guards against being killed; it changes no number."""

    checkpoint_every_s: Annotated[float, Field(ge=0)] | None = 300.0


class Globals(Profile):
    """The keys beside the sections."""

    seed: NonNegative = 0
    threads: Positive = 1
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    memory: Memory = Memory()
    training: Training = Training()
