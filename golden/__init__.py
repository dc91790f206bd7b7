"""Compares tensors with a reference, finds where they first diverge, and captures references from the vendor's runtime.

    result = compare(read_archive("target.npz"), read_archive("reference.npz"), "0.99,0.9")
    if not result:
        found = first_divergence(result, names_in_program_order)

golden.metrics and golden.logits hold the measures by themselves; golden.capture runs a model on a board or the vendor's
model."""

from golden.archive import read_archive, write_archive
from golden.compare import compare
from golden.errors import GoldenError
from golden.first_divergence import Divergence, first_divergence
from golden.result import ComparisonResult, TensorResult, Verdict
from golden.tolerance import Similarity, Tolerances, as_tolerance

__all__ = [
    "ComparisonResult",
    "Divergence",
    "GoldenError",
    "Similarity",
    "TensorResult",
    "Tolerances",
    "Verdict",
    "as_tolerance",
    "compare",
    "first_divergence",
    "read_archive",
    "write_archive",
]
