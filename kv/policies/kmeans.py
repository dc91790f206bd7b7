"""k-means (Lloyd's algorithm), for indexes that need centroids."""

from __future__ import annotations

import numpy as np

from kv.arrays import FloatArray, IntArray


def nearest(points: FloatArray, centroids: FloatArray) -> IntArray:
    """Index of the closest centroid of each point: int64 [n]. points: float32 [n, dim], centroids: float32 [c, dim]."""
    return np.argmin((centroids**2).sum(1) - 2 * points @ centroids.T, axis=1)


def kmeans(points: FloatArray, count: int, iterations: int = 10, seed: int = 0) -> FloatArray:
    """At most `count` centroids, float32 [c, dim], of `points`, float32 [n, dim]. If there are no more than `count`
    distinct points, these are the centroids."""
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
        # a centroid without points does not move
        centroids[occupied] = np.add.reduceat(points[order], starts, axis=0) / sizes[occupied, None]
    return centroids
