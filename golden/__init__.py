"""Compares tensors with a reference, finds where they first diverge, and captures references from the vendor's runtime.

>>> import golden
>>> reference = golden.read_archive("golden/data/functional/mix_cv183x_int8.out.npz")
>>> target = golden.read_archive("golden/data/functional/mix_cv181x_int8.out.npz")
>>> result = golden.compare(target, reference, "0.999,0.9")  # least cosine and Euclidean similarity
>>> result
<ComparisonResult: 5 compared, 1 failed: 2 EQUAL, 2 SIMILAR, 1 NOT_SIMILAR>
>>> golden.first_divergence(result, list(reference))
<Divergence: /Transpose_output_0_Transpose40_Softmax_bf16 is NOT_SIMILAR; nothing passed before it>

golden.metrics and golden.logits hold the measures by themselves; golden.capture runs a model on a board or the vendor's
model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golden.archive import read_archive as read_archive
    from golden.archive import write_archive as write_archive
    from golden.comparison import compare as compare
    from golden.divergence import Divergence as Divergence
    from golden.divergence import first_divergence as first_divergence
    from golden.errors import GoldenError as GoldenError
    from golden.result import ComparisonResult as ComparisonResult
    from golden.result import TensorResult as TensorResult
    from golden.result import Verdict as Verdict
    from golden.tolerance import Similarity as Similarity
    from golden.tolerance import Tolerances as Tolerances
    from golden.tolerance import as_tolerance as as_tolerance

_MODULE_OF = {
    "read_archive": "archive",
    "write_archive": "archive",
    "compare": "comparison",
    "Divergence": "divergence",
    "first_divergence": "divergence",
    "GoldenError": "errors",
    "ComparisonResult": "result",
    "TensorResult": "result",
    "Verdict": "result",
    "Similarity": "tolerance",
    "Tolerances": "tolerance",
    "as_tolerance": "tolerance",
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
