"""How good page scores are on a real model: the softmax mass that 256 tokens of chosen pages keep, by page size.

Prefills a passkey prompt of 2,048 tokens and the first three digits of its answer with SmolLM2, and lets Quest and
ArkVale choose pages for every KV head from the third layer on, where the paper begins to prune. Two things are shown:
the softmax mass kept, mean over all heads; and, over the heads that give more than 0.3 of their mass to the sentence
with the key, how much of that is kept: the mean, and the worst head. Beside them stands the best that pages of that
size allow, chosen by the mass that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

import reference_model
from benchmarks.claim import Say
from kv.memory.geometry import Geometry
from kv.policies.arkvale import ArkVale
from kv.policies.base import LayerContext, Policy, group_scores, softmax
from kv.policies.quest import Quest
from kv.policies.shared import Shared, Sharing
from kv.policies.table import choose
from kv.tasks import task_named
from npusim.evaluation.prompts import Frame, draw_sample
from reference_model.kv_store import ContiguousKV, Selection

BUDGET, CONTEXT, FIRST_LAYER, RETRIEVAL = 256, 2048, 2, 0.3
PAGE_SIZES = (1, 2, 4, 8, 16, 32)
POLICIES: dict[str, Policy | None] = {"quest": Shared(Quest(), Sharing.KV_MAX), "arkvale": ArkVale(), "by mass": None}
FloatArray = NDArray[np.float32]


class Spy(ContiguousKV):
    """Keeps the last query and the keys of every layer."""

    seen: dict[int, tuple[FloatArray, FloatArray]]

    def select(self, layer: int, q: FloatArray) -> Selection:
        selection = super().select(layer, q)
        self.seen[layer] = (q[-1], selection.k)
        return selection


@dataclass(frozen=True)
class Step:
    """One layer's query [q_heads, head_dim], keys and softmax mass [kv_heads, length], and the positions of the
    needle."""

    q: FloatArray
    keys: FloatArray
    mass: FloatArray
    needle: slice


@cache
def steps() -> list[Step]:
    """Each layer in the middle of the answer."""
    model = reference_model.load("smollm2")
    task = task_named("passkey")
    sample = draw_sample(model.tokenizer, task, Frame(), num_tokens=CONTEXT, number=0)
    prompt = Frame().prompt(model.tokenizer, sample)
    before, _, after = sample.context.partition(f"The pass key is {sample.answers[0]}")
    needle = slice(
        len(model.tokenizer.encode(before)),
        len(prompt.context) - len(model.tokenizer.encode(after.partition("key.")[2])),
    )
    tokens = prompt.context + prompt.question + model.tokenizer.encode(f" {sample.answers[0][:3]}", special=False)
    c = model.config
    kv = Spy(c.num_layers, c.num_kv_heads, c.head_dim, CONTEXT)
    kv.seen = {}
    for start in range(0, len(tokens), 256):
        model.hidden(tokens[start : start + 256], kv)
    found = []
    for layer in range(FIRST_LAYER, c.num_layers):
        q, keys = kv.seen[layer]
        found.append(Step(q, keys, softmax(group_scores(q, keys) / np.float32(np.sqrt(c.head_dim))).mean(1), needle))
    return found


def kept_tokens(policy: Policy | None, page_size: int, step: Step) -> NDArray[np.bool_]:
    """Of each KV head, [kv_heads, length]; without a policy the pages with most mass."""
    geometry = Geometry(1, len(step.q), len(step.keys), step.keys.shape[2], page_size)
    if policy is None:
        scores = np.add.reduceat(step.mass, np.arange(0, step.mass.shape[1], page_size), axis=1)
    else:
        state = policy.start(LayerContext(geometry, 0, BUDGET, 4))
        state.append(0, step.keys.swapaxes(0, 1))
        scores = state.scores(step.q, lambda: step.keys)
    pages = np.broadcast_to(choose(scores, BUDGET // page_size), (len(step.keys), scores.shape[1]))
    return np.repeat(pages, page_size, axis=1)[:, : step.mass.shape[1]]


def kept(policy: Policy | None, page_size: int, found: list[Step]) -> tuple[float, list[float]]:
    """Mean mass kept, and the share kept of what each head that looks for the needle gives to it."""
    mass, of_needle = [], []
    for step in found:
        held = np.where(kept_tokens(policy, page_size, step), step.mass, 0)
        mass.append(held.sum(1).mean())
        wanted = step.mass[:, step.needle].sum(1)
        looking = wanted > RETRIEVAL
        of_needle += (held[:, step.needle].sum(1)[looking] / wanted[looking]).tolist()
    return float(np.mean(mass)), of_needle


def worst_heads(say: Say) -> dict[str, dict[int, float]]:
    """Policy -> page size -> what the worst head keeps of the key's sentence."""
    found = steps()
    looking = len(kept(None, 1, found)[1])
    say(
        f"{BUDGET} of {found[0].mass.shape[1]} tokens kept; {len(found)} layers of 3 KV heads, of which {looking} "
        "heads look at the key"
    )
    say("mass kept of all, of the key's sentence (mean), and of it in the worst head")
    say(f"{'page':>5}" + "".join(f"{name:>24}" for name in POLICIES))
    worst: dict[str, dict[int, float]] = {name: {} for name in POLICIES}
    for page_size in PAGE_SIZES:
        row = f"{page_size:5}"
        for name, policy in POLICIES.items():
            mass, of_needle = kept(policy, page_size, found)
            worst[name][page_size] = min(of_needle)
            row += f"{mass:10.3f}{np.mean(of_needle):7.3f}{min(of_needle):7.3f}"
        say(row)
    return worst


def by_mass(say: Say) -> float:
    """What the worst head keeps of the key's sentence where pages are chosen by the mass that they hold: the least of
    all page sizes."""
    return min(worst_heads(say)["by mass"].values())


def quest(say: Say) -> float:
    """The same under Quest, of pages of at most 8 tokens."""
    return min(share for page_size, share in worst_heads(say)["quest"].items() if page_size <= 8)
