"""The profile of a fine-tuning step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.config.profile import NonNegative, Positive, Precision, Profile, Rate

# Keys that only some strategies use, which list them in KEYS; all others are of training.
OF_STRATEGY = frozenset(
    (
        *("preserve_zeros", "adapter", "rank", "alpha", "dropout", "targets", "quantization"),
        *("double_quant", "precision", "calibration"),
    )
)


class Finetune(Profile):
    """A fine-tuning step; keys beyond these are settings of its strategy."""

    model_config = ConfigDict(extra="allow")

    strategy: str
    split: str = "train"
    rows: Positive | None = None
    window: Annotated[int, Field(ge=2)] | None = None
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
    autocast: Precision = "auto"
    loss_on: Literal["response", "all", "label"] = "response"
    gradient_checkpointing: bool = False
    processes: Positive = 1
    preserve_zeros: bool = True
    adapter: Literal["merged", "unmerged", "unmasked", "masked-after"] | None = None
    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | list[str] = "all-linear"
    quantization: Literal["nf4", "int8"] = "nf4"
    double_quant: bool = True
    precision: Literal["nf4", "int8", "int8_values", "bfloat16", "float32"] | None = None
    calibration: str | None = None

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            plugins.strategy_facts(value)
        except PrunegridError as error:
            raise ValueError(f"{error.what}; {error.remedy}") from error
        return value

    def unused(self) -> set[str]:
        """Return the keys that its strategy does not use."""
        facts, fields = plugins.strategy_facts(self.strategy), set(type(self).model_fields)
        training = fields - OF_STRATEGY if facts["TRAINS"] else set()
        return fields - training - {"strategy", *facts["KEYS"]}

    def idle(self) -> set[str]:
        """Return the settings of its strategy that other values of its CHOICES use."""
        facts, idle = plugins.strategy_facts(self.strategy), set()
        for key, uses in facts["CHOICES"].items():
            used = uses.get(str(self._values()[key]), ())
            idle |= {name for names in uses.values() for name in names} - {*used}
        return idle

    @property
    def way(self) -> str | None:
        """Return the kind of its adapter: `adapter`, or the strategy's first; None without one."""
        return self.adapter or next(iter(plugins.strategy_facts(self.strategy)["ADAPTERS"]), None)

    @property
    def plain(self) -> bool:
        """Return whether it ends in plain weights, which further steps can take."""
        return self._is_under(plugins.strategy_facts(self.strategy)["PLAIN"])

    @property
    def draws(self) -> bool:
        """Return whether its strategy draws random numbers."""
        facts = plugins.strategy_facts(self.strategy)
        return facts["TRAINS"] or (facts["DRAWS"] is not None and self._is_under(facts["DRAWS"]))

    def settings(self) -> dict[str, Any]:
        """Return the values of its keys and its strategy's settings: written, or the defaults.

        The defaults of the strategy go before those of the key.
        """
        defaults = plugins.strategy_facts(self.strategy)["SETTINGS"]
        written = self.model_dump(exclude_unset=True)
        return self.model_dump() | defaults | written

    def _values(self) -> dict[str, Any]:
        return self.settings() | {"adapter": self.way}

    def _is_under(self, conditions: Mapping[str, tuple]) -> bool:
        """Return whether each of some keys has one of its values."""
        values = self._values()
        return all(values.get(key) in allowed for key, allowed in conditions.items())

    def conflicts(self) -> Iterator[str]:
        """Yield what does not fit its strategy, and settings of training that exclude others."""
        yield from self._misfits_of_strategy()
        yield from self._misfits_of_training()

    def _misfits_of_strategy(self) -> Iterator[str]:
        facts = plugins.strategy_facts(self.strategy)
        idle = self.unused() & self.model_fields_set
        if idle:
            yield f"strategy {self.strategy} does not use {sorted(idle)}; remove them"
        values = self._values()
        for key, uses in facts["CHOICES"].items():
            if values[key] not in uses:
                yield f"{key} is {values[key]!r}; {nearest(str(values[key]), uses)}"
            elif idle := self.idle() & self.model_fields_set:
                yield f"{key} {values[key]} does not use {sorted(idle)}; remove them"
        if self.adapter is not None and self.adapter not in facts["ADAPTERS"]:
            yield (
                f"strategy {self.strategy} has no adapter {self.adapter}; "
                f"expected one of {sorted(facts['ADAPTERS'])}"
            )
        for key in sorted({"precision", "calibration"} & set(facts["KEYS"])):
            if getattr(self, key) is None:
                yield f"strategy {self.strategy} needs `{key}`"
        if not self.preserve_zeros and self.way in ("unmasked", "masked-after"):
            yield f"adapter {self.way} and preserve_zeros: false exclude each other"
        key = "precision" if "precision" in facts["KEYS"] else "quantization"
        if "double_quant" in self.model_fields_set and getattr(self, key) != "nf4":
            yield (
                f"{key} {getattr(self, key)} does not use `double_quant`, which is of nf4; "
                "remove it"
            )

    def _misfits_of_training(self) -> Iterator[str]:
        if not plugins.strategy_facts(self.strategy)["TRAINS"]:
            rates = self.learning_rates
            if rates is not None and (not rates or len(set(rates)) < len(rates)):
                yield "`learning_rates` lists at least one, each once"
            return
        needs = {
            "dev_rows": "dev_split",
            "evaluate_every": "dev_split",
            "patience": "evaluate_every",
            "learning_rates": "dev_split",
        }
        for key, needed in needs.items():
            if getattr(self, key) is not None and getattr(self, needed) is None:
                yield f"`{key}` needs `{needed}`; add it or remove `{key}`"
        if self.dev_split == self.split:
            yield f"dev_split is '{self.split}', which is learned; name another"
        whole = {"qlora": "packed weights are", "seq2seq": "an encoder-decoder is"}
        if self.processes > 1 and self.strategy in whole:
            text = f"{whole[self.strategy]} not shared out; remove `processes`"
            yield f"strategy {self.strategy} has one process: {text}"
        if self.processes > 1 and plugins.is_own(self.strategy):
            yield f"strategy {self.strategy} is a file of yours: remove `processes`"
        given = self.model_fields_set
        if self.token_budget is not None and {"epochs", "max_steps"} & given:
            yield "`token_budget` takes the place of `epochs` and `max_steps`"
        if self.learning_rates is not None:
            if "learning_rate" in given:
                yield "give `learning_rate`, or `learning_rates` to choose from"
            if len(set(self.learning_rates)) < max(2, len(self.learning_rates)):
                yield "`learning_rates` lists at least two, each once, to choose from"
