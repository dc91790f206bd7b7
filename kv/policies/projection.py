"""From a key and a query to a few elements each whose product is nearly theirs: fitted to a model, kept in a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kv.arrays import FloatArray
from kv.errors import KVError
from kv.memory.geometry import Geometry

KIND = "npusim key projection 1"
MOST_BYTES = 256 << 20
WAY_OUT = "make one with npusim calibrate"
BF16_BYTES = 2
LEAST_VARIANCE = 1e-9
"""Of the largest: directions in which queries hardly vary are not divided by less."""


@dataclass(frozen=True)
class Projection:
    """Of one layer: float32 [kv_heads, head_dim, rank] for queries and for keys."""

    query: FloatArray
    key: FloatArray

    @property
    def num_bytes(self) -> int:
        """In bf16, which is how a chip reads it in every step."""
        return BF16_BYTES * (self.query.size + self.key.size)


@dataclass(frozen=True)
class ModelProjection:
    """Of all layers, with as many elements as a head has, those that matter most first.

    model       says which model it was fitted to
    query, key  float32 [layers, kv_heads, head_dim, head_dim]
    """

    model: str
    query: FloatArray
    key: FloatArray

    def of_layer(self, layer: int, rank: int) -> Projection:
        """The first `rank` elements. KVError where a head has fewer."""
        if rank > self.query.shape[-1]:
            raise KVError(f"a rank of {rank}: a head of {self.query.shape[-1]} elements has at most as many")
        return Projection(self.query[layer, ..., :rank], self.key[layer, ..., :rank])


def fit(query_moment: FloatArray, key_covariance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Projections of queries and of keys, [..., d, d] each, from E[q q'] and the covariance of keys, [..., d, d]; and
    what each of their columns adds to the variance of q.k, [..., d].

    The first r columns are the pair of rank r that changes q.k least in the mean square: with Q = E[q q'] and
    K = cov k, they are the eigenvectors U of Q^1/2 K Q^1/2, as Q^-1/2 U for queries and Q^1/2 U for keys."""
    values, vectors = np.linalg.eigh(query_moment.astype(np.float64))
    largest = np.maximum(values.max(-1, keepdims=True), np.finfo(np.float64).tiny)
    roots = np.sqrt(np.maximum(values, LEAST_VARIANCE * largest))
    transposed = vectors.swapaxes(-1, -2)
    root, inverse = ((vectors * scale[..., None, :]) @ transposed for scale in (roots, 1 / roots))
    variances, order = np.linalg.eigh(root @ key_covariance.astype(np.float64) @ root)
    order = order[..., ::-1]
    return (inverse @ order).astype(np.float32), (root @ order).astype(np.float32), variances[..., ::-1]


def projection_bytes(projection: ModelProjection) -> bytes:
    """The file of a projection: safetensors with `query` and `key`, and the model in its metadata."""
    tensors = {"query": np.ascontiguousarray(projection.query), "key": np.ascontiguousarray(projection.key)}
    return bytes(save(tensors, metadata={"kind": KIND, "model": projection.model}))


def read_file(path: str) -> ModelProjection:
    """The projection in a file. KVError where it cannot be read, is damaged or is something else."""
    try:
        found = Path(path).stat()
    except OSError as error:
        raise KVError(f"cannot read the calibration {path}: {error.strerror or error}") from None
    if found.st_size > MOST_BYTES:
        raise KVError(f"{path} is larger than {MOST_BYTES >> 20} MiB, so it is no calibration: {WAY_OUT}")
    return _read(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=8)
def _read(path: str, changed: int, size: int) -> ModelProjection:
    """The same, read once for each state of a file: each layer of each sequence asks for it."""
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != KIND:
                raise KVError(f"{path} is no calibration of keys: {WAY_OUT}")
            found = ModelProjection(metadata.get("model", ""), file.get_tensor("query"), file.get_tensor("key"))
    except OSError as error:
        raise KVError(f"cannot read the calibration {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise KVError(f"{path} is damaged, or no calibration of keys ({error}): {WAY_OUT}") from None
    square = found.query.ndim == 4 and found.query.shape[2] == found.query.shape[3]
    if not square or found.query.shape != found.key.shape or {found.query.dtype, found.key.dtype} != {np.dtype("f4")}:
        raise KVError(f"{path} holds no pair of float32 [layers, heads, elements, elements]: {WAY_OUT}")
    if not (np.isfinite(found.query).all() and np.isfinite(found.key).all()):
        raise KVError(f"{path} holds NaN or infinity: {WAY_OUT}")
    return found


def read_projection(path: str, geometry: Geometry) -> ModelProjection:
    """The projection in a file, for a cache of this geometry. KVError where it is another model's, or as read_file."""
    found = read_file(path)
    wanted = (geometry.num_layers, geometry.num_kv_heads, geometry.head_dim)
    if found.query.shape[:3] != wanted:
        theirs = " x ".join(map(str, found.query.shape[:3]))
        raise KVError(
            f"{path} was made for {found.model or 'a model'} of {theirs} (layers, KV heads, elements of a head), this "
            f"one has {' x '.join(map(str, wanted))}: make one with npusim calibrate"
        )
    return found
