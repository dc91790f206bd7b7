"""Every policy, in the order in which tables show them."""

from __future__ import annotations

from kv.errors import KVError
from kv.policies.arkvale import ArkVale
from kv.policies.base import Policy
from kv.policies.full import Full
from kv.policies.h2o import H2O
from kv.policies.infllm import InfLLM
from kv.policies.ivf import IVF
from kv.policies.oracle import OracleTopK
from kv.policies.pqcache import PQCache
from kv.policies.quest import Quest
from kv.policies.random_pages import RandomPages
from kv.policies.retrieval_attention import RetrievalAttention
from kv.policies.shared import Shared, Sharing
from kv.policies.snapkv import SnapKV
from kv.policies.streaming_llm import StreamingLLM
from kv.policies.tova import TOVA
from kv.policies.twilight import Twilight

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
"""With the defaults that a comparison starts from. Quest chooses for each KV head here; Quest() alone does for each query head."""


def policy_named(name: str) -> Policy:
    """The policy of POLICIES with this name, or KVError."""
    for policy in POLICIES:
        if policy.name == name:
            return policy
    raise KVError(f"there is no policy {name!r}: choose one of {', '.join(policy.name for policy in POLICIES)}")
