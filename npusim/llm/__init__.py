"""A language model on the chip. A decoder of the Llama family with a paged, pruned cache is lowered to static programs,
and a session runs them token by token.

>>> import reference_model
>>> from npusim.board import board_named
>>> from npusim.llm import Setup, prepare
>>> model = reference_model.load("builtin")
>>> setup = Setup(board_named("duo256m"), "int8", context=64, budget=32)
>>> run = prepare(model, setup, model.tokenizer.encode("And it came to pass"))
>>> model.tokenizer.decode(list(run.generate(max_tokens=4)))
', that, behold'
>>> f"{run.step_time().tokens_per_second:.0f} tokens/s, {run.step_time().binds} binds"
'790 tokens/s, DRAM binds'
"""

from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.board.export import export_bundle
from npusim.llm.capacity import Capacity, capacities
from npusim.llm.device import Device, SimulatedDevice
from npusim.llm.generation import Generation, prepare
from npusim.llm.lowered_model import LoweredModel, PrefillProgram
from npusim.llm.lowering import lower
from npusim.llm.measure import Agreement, agreement, layer_errors
from npusim.llm.memory_map import DoesNotFit, MemoryMap
from npusim.llm.predict import Predictor, StepTime
from npusim.llm.report import BoardReport
from npusim.llm.session import Session
from npusim.llm.setup import Gather, Precision, Setup, Submit
from npusim.llm.together import Together, TogetherReport, prepare_together

__all__ = [
    "PAGE_SIZE",
    "Agreement",
    "BoardReport",
    "Capacity",
    "Device",
    "DoesNotFit",
    "Gather",
    "Generation",
    "LoweredModel",
    "MemoryMap",
    "Precision",
    "Predictor",
    "PrefillProgram",
    "Session",
    "Setup",
    "SimulatedDevice",
    "StepTime",
    "Submit",
    "Together",
    "TogetherReport",
    "agreement",
    "capacities",
    "export_bundle",
    "layer_errors",
    "lower",
    "prepare",
    "prepare_together",
]
