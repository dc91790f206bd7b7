"""Everything that decides what a training run computes.

The same recipe, text and library versions give the same bits."""

from __future__ import annotations

from dataclasses import dataclass, field

from reference_model.config import ModelConfig
from reference_model.errors import ModelError


@dataclass(frozen=True)
class Phase:
    """A stretch of the run.

    `dense` is the share of sequences that are nothing but records, `planted` the share of text with records in it."""

    share: float
    context: int
    dense: float
    planted: float


def curriculum(context: int, recall: bool) -> tuple[Phase, ...]:
    """Short sequences first, since they cost least; then the whole context. With recall, records are in the mix.

    Text comes before records. A model that has learnt some text picks records up within 150 steps; one that began
    with records had not after 500."""
    short = min(256, context)
    if not recall:
        return Phase(0.25, short, 0.0, 0.0), Phase(0.75, context, 0.0, 0.0)
    return Phase(0.25, short, 0.0, 0.0), Phase(0.10, min(64, context), 0.9, 0.0), Phase(0.65, context, 0.06, 0.44)


MIN_VOCABULARY = 320


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run.

    batch_tokens are used in each step, micro_tokens at a time, so that what a backward pass needs stays small.
    answer_weight is how much more than an ordinary token a recalled value counts in the loss."""

    num_steps: int = 2900
    vocab_size: int = 1024
    hidden_size: int = 192
    intermediate_size: int = 512
    num_layers: int = 4
    num_heads: int = 6
    num_kv_heads: int = 2
    seed: int = 1
    batch_tokens: int = 4096
    micro_tokens: int = 2048
    peak_learning_rate: float = 3e-3
    warmup: int = 100
    max_norm: float = 1.0
    answer_weight: float = 4.0
    max_planted: int = 12
    phases: tuple[Phase, ...] = field(default=curriculum(1024, recall=True))

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ModelError(f"a run of {self.num_steps} steps trains nothing: use at least 1")
        if self.vocab_size < MIN_VOCABULARY:
            raise ModelError(
                f"a vocabulary of {self.vocab_size} does not hold all bytes and the marks: use at least "
                f"{MIN_VOCABULARY}"
            )
        for name in ("intermediate_size", "num_layers", "num_heads", "num_kv_heads", "batch_tokens", "micro_tokens"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)}: use at least 1")
        if self.hidden_size % self.num_heads:
            raise ModelError(
                f"hidden size {self.hidden_size} does not divide into {self.num_heads} heads: use a multiple"
            )

    def config(self, vocab_size: int) -> ModelConfig:
        return ModelConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.hidden_size // self.num_heads,
            context_length=self.context,
        )

    @property
    def context(self) -> int:
        """The model's context, in tokens."""
        return max(phase.context for phase in self.phases)

    @property
    def warmup_steps(self) -> int:
        """Steps of warm-up; a tenth of a short run."""
        return min(self.warmup, max(self.num_steps // 10, 1))

    @property
    def has_recall(self) -> bool:
        return any(phase.dense or phase.planted for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        """The phase of a step, counted from 0."""
        end = 0.0
        for phase in self.phases:
            end += phase.share * self.num_steps
            if step < end:
                return phase
        return self.phases[-1]
