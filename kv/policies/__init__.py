"""The policies, which choose what a decode step attends to, and wrappers around them.

A policy is a frozen dataclass of hyper-parameters. Its State, one for each layer of a sequence, scores pages or tokens
(base.py). The scores become a table of fixed shape (table.py). A new policy is one file here and a line in POLICIES."""

from __future__ import annotations

from dataclasses import fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

from kv.errors import KVError
from kv.policies.arkvale import ArkVale
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit
from kv.policies.from_file import policy_from_file
from kv.policies.full import Full
from kv.policies.h2o import H2O
from kv.policies.infllm import InfLLM
from kv.policies.ivf import IVF
from kv.policies.mean_pages import MeanPages
from kv.policies.oracle import OracleTopK
from kv.policies.paged import Paged
from kv.policies.per_layer import PerLayer
from kv.policies.pqcache import PQCache
from kv.policies.protected import Protected
from kv.policies.quest import Quest
from kv.policies.random_pages import RandomPages
from kv.policies.retrieval_attention import RetrievalAttention
from kv.policies.several import Several
from kv.policies.shared import Shared, Sharing
from kv.policies.snapkv import SnapKV
from kv.policies.streaming_llm import StreamingLLM
from kv.policies.tova import TOVA
from kv.policies.twilight import Twilight
from kv.policies.vector_table import Stored

__all__ = [
    "H2O",
    "IVF",
    "POLICIES",
    "TOVA",
    "ArkVale",
    "Full",
    "InfLLM",
    "LayerContext",
    "MeanPages",
    "OracleTopK",
    "PQCache",
    "Paged",
    "PerLayer",
    "Policy",
    "Protected",
    "Quest",
    "RandomPages",
    "ReadKeys",
    "RetrievalAttention",
    "Several",
    "Shared",
    "Sharing",
    "SnapKV",
    "State",
    "Stored",
    "StreamingLLM",
    "Twilight",
    "Unit",
    "policy_named",
]

POLICIES: tuple[Policy, ...] = (
    Full(),
    RandomPages(),
    OracleTopK(),
    StreamingLLM(),
    H2O(),
    TOVA(),
    SnapKV(),
    Shared(Quest(), Sharing.KV_MAX),
    InfLLM(),
    PQCache(),
    RetrievalAttention(),
    IVF(),
    ArkVale(),
    Twilight(Quest()),
    MeanPages(),
)
"""The policies with their default settings, in the order in which tables show them. Quest chooses for each KV head
here; Quest() alone chooses for each query head."""


def policy_named(spec: str) -> Policy:
    """NAME or NAME:SETTING=VALUE[:SETTING=VALUE...], as "twilight:p=0.95": a policy of POLICIES, some settings changed.

    A setting is a hyper-parameter of the policy, or one of ANY_POLICY. FILE.py:CLASS in place of NAME is a policy of
    the caller's own, whose file is run. Raises KVError if there is no such policy or setting."""
    name, *settings = spec.split(":")
    chosen = next((policy for policy in POLICIES if policy.name == name), None)
    if name.endswith(".py"):
        if not settings:
            raise KVError(f"{name} is a file: name the policy in it too, as {name}:MyPolicy")
        chosen = policy_from_file(Path(name), settings.pop(0))
    if chosen is None:
        raise KVError(
            f"there is no policy {name!r}: choose one of {', '.join(policy.name for policy in POLICIES)}, or give "
            "FILE.py:CLASS"
        )
    own, changes, around = settings_of(chosen), {}, {}
    for setting in settings:
        field, _, text = setting.partition("=")
        if field in own:
            changes[field] = _value(chosen, field, own[field], text)
        elif field in ANY_POLICY:
            around[field] = _value(chosen, field, 0, text)
        else:
            raise KVError(f"{name} has no setting {field!r}: it has {', '.join([*own, *sorted(ANY_POLICY - {*own})])}")
    return _wrapped(_changed(chosen, changes), around)


ANY_POLICY = frozenset({"page_size", "sinks", "recent"})
"""Settings of every policy that has no setting of that name itself: the size of its pages (Paged), and first and last
tokens that it always keeps (Protected)."""


def settings_of(policy: Policy) -> dict[str, Any]:
    """The hyper-parameters of a policy, and of those inside it, with their values."""
    here = {field.name: getattr(policy, field.name) for field in fields(policy)}
    inside = {
        name: value for each in here.values() if isinstance(each, Policy) for name, value in settings_of(each).items()
    }
    return {name: value for name, value in here.items() if not isinstance(value, Policy | Path)} | inside


def _changed(policy: Policy, changes: dict[str, Any]) -> Policy:
    """The policy with hyper-parameters of its own, and of the policies inside it, changed all at once."""
    here = {field.name: getattr(policy, field.name) for field in fields(policy)}
    inside = {name: _changed(value, changes) for name, value in here.items() if isinstance(value, Policy)}
    return replace(policy, **inside, **{name: value for name, value in changes.items() if name in here})


def _wrapped(policy: Policy, around: dict[str, int]) -> Policy:
    if "sinks" in around or "recent" in around:
        policy = Protected(policy, around.get("sinks", 0), around.get("recent", 0))
    return Paged(policy, around["page_size"]) if "page_size" in around else policy


def _value(policy: Policy, name: str, now: Any, text: str) -> Any:
    """The value that a setting's text gives, of the type of its present value."""
    try:
        return type(now)(text)
    except ValueError:
        kind = " or ".join(item.value for item in type(now)) if isinstance(now, Enum) else f"a number, as {now}"
        raise KVError(f"{name} of {policy.name} is {text!r}: it must be {kind}") from None
