"""A NumPy transformer to hold a chip, a cache policy or a quantisation against.

>>> import reference_model
>>> model = reference_model.load("builtin")  # or a .gguf, a llama2.c .bin, a directory of the hub
>>> model
<Model: 1,771,200 parameters, 4 layers of 192, 6 query and 2 KV heads of 32, vocabulary 1,024, context 1,024>
>>> prompt = model.tokenizer.encode(" [ king gold ] and the people went up, [ water house ] and he said, [ king")
>>> model.tokenizer.decode(list(reference_model.generate(model, prompt, max_tokens=2)))
' gold ]'
>>> reference_model.quantise(model, "bf16").forward(prompt).shape  # in the chip's own arithmetic
(20, 1024)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reference_model.config import ModelConfig as ModelConfig
    from reference_model.errors import ModelError as ModelError
    from reference_model.generation import Sampling as Sampling
    from reference_model.generation import generate as generate
    from reference_model.generation import stream_text as stream_text
    from reference_model.kv_store import ContiguousKV as ContiguousKV
    from reference_model.kv_store import KVStore as KVStore
    from reference_model.kv_store import Selected as Selected
    from reference_model.kv_store import Selection as Selection
    from reference_model.loading import load as load
    from reference_model.model import Model as Model
    from reference_model.quant.quantise import quantise as quantise
    from reference_model.quant.twin import TwinModel as TwinModel
    from reference_model.tokenizer import Tokenizer as Tokenizer

_MODULE_OF = {
    "ModelConfig": "config",
    "ModelError": "errors",
    "Sampling": "generation",
    "generate": "generation",
    "stream_text": "generation",
    "ContiguousKV": "kv_store",
    "KVStore": "kv_store",
    "Selected": "kv_store",
    "Selection": "kv_store",
    "load": "loading",
    "Model": "model",
    "quantise": "quant.quantise",
    "TwinModel": "quant.twin",
    "Tokenizer": "tokenizer",
}
"""Where each name lives. Its module is imported when the name is first asked for (PEP 562)."""

__all__ = list(_MODULE_OF)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
