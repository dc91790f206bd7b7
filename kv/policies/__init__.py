"""The policies, which choose what a decode step attends to, and wrappers around them.

A policy is a frozen dataclass of hyper-parameters. Its State, one for each layer of a sequence, scores pages or tokens
(base.py). The scores become a table of fixed shape (table.py). A new policy is one file here and a line in POLICIES."""

from __future__ import annotations

from dataclasses import fields, replace
from enum import Enum
from typing import Any

from kv.errors import KVError
from kv.policies.arkvale import ArkVale
from kv.policies.base import LayerContext, Policy, ReadKeys, State, Unit
from kv.policies.full import Full
from kv.policies.h2o import H2O
from kv.policies.infllm import InfLLM
from kv.policies.ivf import IVF
from kv.policies.oracle import OracleTopK
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

__all__ = [
    "H2O",
    "IVF",
    "POLICIES",
    "TOVA",
    "ArkVale",
    "Full",
    "InfLLM",
    "LayerContext",
    "OracleTopK",
    "PQCache",
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
)
"""The policies with their default settings, in the order in which tables show them. Quest chooses for each KV head
here; Quest() alone chooses for each query head."""


def policy_named(spec: str) -> Policy:
    """The policy of `spec`, NAME or NAME:FIELD=VALUE[:FIELD=VALUE...], such as "twilight:p=0.95": a policy of POLICIES
    with some hyper-parameters changed. Raises KVError for what does not exist."""
    name, *settings = spec.split(":")
    for policy in POLICIES:
        if policy.name == name:
            return replace(policy, **dict(_setting(policy, setting) for setting in settings))
    raise KVError(f"there is no policy {name!r}: choose one of {', '.join(policy.name for policy in POLICIES)}")


def _setting(policy: Policy, setting: str) -> tuple[str, Any]:
    """(name, value) of a setting FIELD=VALUE; the value has the type of the field's default."""
    name, _, text = setting.partition("=")
    now = {
        field.name: getattr(policy, field.name)
        for field in fields(policy)
        if not isinstance(getattr(policy, field.name), Policy)
    }
    if name not in now:
        raise KVError(f"{policy.name} has no setting {name!r}: it has {', '.join(now) or 'none'}")
    try:
        return name, type(now[name])(text)
    except ValueError:
        kind = (
            " or ".join(item.value for item in type(now[name]))
            if isinstance(now[name], Enum)
            else f"a number, as {now[name]}"
        )
        raise KVError(f"{name} of {policy.name} is {text!r}: it must be {kind}") from None
