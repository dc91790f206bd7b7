"""The report of a generation on a simulated board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from npusim.llm.generation import Generation
from npusim.llm.measure import Agreement, agreement
from npusim.llm.memory_map import MemoryMap
from npusim.llm.predict import StepTime
from npusim.llm.setup import Setup
from reference_model.model import Model
from reference_model.quant.compare import LayerError


@dataclass(frozen=True, kw_only=True)
class BoardReport:
    """A generation's text and speed. All times except simulated_s are predictions for the board.

    step        a decode step in the middle of the generated text
    unpruned    the same if every token is attended to; None if nothing is pruned
    agreement   with the float model on the same tokens; None if no token was generated
    layers      each layer's error against the float model; empty if it was not asked for
    """

    setup: Setup
    prompt_tokens: int
    text: str
    tokens: tuple[int, ...]
    step: StepTime
    unpruned: StepTime | None
    ms_to_first_token: float
    agreement: Agreement | None
    memory: MemoryMap
    command_bytes: int
    simulated_s: float
    layers: tuple[LayerError, ...] = ()

    @classmethod
    def of(
        cls, run: Generation, model: Model, *, text: str, simulated_s: float, layers: Sequence[LayerError] = ()
    ) -> BoardReport:
        """The report of `run`, which generated `text` in `simulated_s` seconds. Runs the float `model` on the same
        tokens."""
        return cls(
            setup=run.lowered.setup,
            prompt_tokens=len(run.prompt),
            text=text,
            tokens=tuple(run.tokens),
            step=run.step_time(),
            unpruned=run.step_time_without_pruning(),
            ms_to_first_token=run.prefill_ms(),
            agreement=agreement(model, run.prompt, run.tokens, run.logits) if run.tokens else None,
            memory=run.lowered.memory,
            command_bytes=run.lowered.command_bytes,
            simulated_s=simulated_s,
            layers=tuple(layers),
        )

    @property
    def has_pruned(self) -> bool:
        """Whether the text became so long that a step left tokens out."""
        setup = self.setup
        return setup.prunes and self.prompt_tokens + len(self.tokens) > (setup.budget or setup.context)

    def json(self) -> dict[str, Any]:
        """JSON-ready data. It has "layers" only if they were asked for."""
        setup, step, measured = self.setup, self.step, self.agreement
        report: dict[str, Any] = {
            "board": setup.board.name,
            "precision": setup.precision,
            "policy": "quest" if setup.budget else "full",
            "budget": setup.budget,
            "context": setup.context,
            "prunes": setup.prunes,
            "gather": setup.gather.value,
            "submit": setup.submit.value,
            "prompt_tokens": self.prompt_tokens,
            "text": self.text,
            "tokens": list(self.tokens),
            "pruned": self.has_pruned,
            "tokens_per_second": step.tokens_per_second,
            "tokens_per_second_without_pruning": self.unpruned and self.unpruned.tokens_per_second,
            "dram_bytes_per_token_without_pruning": self.unpruned and self.unpruned.dram_bytes,
            "ms_per_token": {
                "chip": step.chip_ms,
                "cpu": step.cpu_ms,
                "submit": step.submit_ms,
                "storage": step.storage_ms,
                "total": step.ms,
            },
            "binds": step.binds,
            "ms_to_first_token": self.ms_to_first_token,
            "dram_bytes_per_token": step.dram_bytes,
            "argmax_agreement": measured and measured.argmax,
            "kl": measured and measured.kl,
            "memory_map": [
                *(asdict(region) for region in self.memory.regions),
                {"name": "command buffers", "num_bytes": self.command_bytes},
            ],
            "ion_bytes": setup.memory_bytes,
            "simulated_s": self.simulated_s,
        }
        if self.layers:
            report["layers"] = [{"layer": e.layer, "entire_db": e.entire, "single_db": e.single} for e in self.layers]
        return report
