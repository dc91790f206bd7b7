"""Lloyd's algorithm, for the indexes that need centroids."""

from __future__ import annotations

import numpy as np

from kv.arrays import FloatArray, IntArray


def nearest(points: FloatArray, centroids: FloatArray) -> IntArray:
    """Index of the closest centroid of each point: int [n] from float32 [n, dim] and [c, dim]."""
    return np.argmin((centroids**2).sum(1) - 2 * points @ centroids.T, axis=1)


def kmeans(points: FloatArray, count: int, iterations: int = 10, seed: int = 0) -> FloatArray:
    """`count` centroids of float32 [n, dim] points; exact if there are no more distinct points than that. Float32 [<=
    count, dim]."""
    distinct = np.unique(points, axis=0)
    if len(distinct) <= count:
        return distinct
    centroids = distinct[np.random.default_rng(seed).choice(len(distinct), count, replace=False)]
    for _ in range(iterations):
        member = nearest(points, centroids)
        sizes = np.bincount(member, minlength=count)
        order = np.argsort(member, kind="stable")
        occupied = sizes > 0
        starts = (np.cumsum(sizes) - sizes)[occupied]
        centroids[occupied] = (
            np.add.reduceat(points[order], starts, axis=0) / sizes[occupied, None]
        )  # an empty one stays where it was
    return centroids
