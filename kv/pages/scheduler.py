"""Who runs and who waits when pages run out: first come first served, preemption by recompute or by swap (vLLM's
scheduler)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from kv.errors import KVError
from kv.pages.block_manager import Admission, BlockManager, Copies


class Preemption(Enum):
    RECOMPUTE = auto()
    """Free the victim's pages and compute its tokens again later; they may still be found in the prefix cache."""
    SWAP = auto()
    """Move the victim's pages to host memory, or recompute if that is full."""


@dataclass
class Request:
    """A sequence to generate: `tokens` grows from the prompt. `salt` separates tenants."""

    name: str
    tokens: list[int]
    salt: str = ""


@dataclass
class Step:
    """What one scheduling step decided. Copies between pages come first, in the order of the fields, then the compute.

    admitted    requests whose tokens from num_cached on must be computed now
    decoding    requests that each compute their last token
    """

    swapped_out: Copies = field(default_factory=list)
    swapped_in: Copies = field(default_factory=list)
    copies: Copies = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    admitted: list[Request] = field(default_factory=list)
    decoding: list[Request] = field(default_factory=list)


class Scheduler:
    """Requests in order of arrival over one BlockManager."""

    def __init__(self, manager: BlockManager, preemption: Preemption = Preemption.RECOMPUTE) -> None:
        self.manager = manager
        self.preemption = preemption
        self.waiting: deque[Request] = deque()
        self.running: deque[Request] = deque()

    def add(self, request: Request) -> None:
        """Queue a request; KVError if no step could ever admit it."""
        if not request.tokens:
            raise KVError(f"request {request.name!r} has no tokens: a prompt holds at least one")
        if self.manager.admission(request.tokens, request.salt) is Admission.NEVER:
            raise KVError(f"request {request.name!r} of {len(request.tokens)} tokens can never fit: use a larger pool")
        self.waiting.append(request)

    def step(self) -> Step:
        """Grow every running request to its tokens, preempting the newest where pages lack; admit waiting ones if
        nobody was preempted."""
        for request in self.running:
            if len(request.tokens) > self.manager.max_tokens:
                raise KVError(
                    f"request {request.name!r} has {len(request.tokens)} tokens and the pool holds "
                    f"{self.manager.max_tokens}: finish it"
                )
        step = Step()
        granted: deque[Request] = deque()
        while self.running:
            request = self.running.popleft()
            if self._make_room(request, step):
                step.copies += self.manager.append(request.name, 1)
                granted.append(request)
        self.running = granted
        step.decoding = list(granted)
        if not step.preempted:
            self._admit(step)
        return step

    def finish(self, request: Request) -> None:
        """Take a request out and free its pages."""
        self.running.remove(request)
        self.manager.free(request.name)

    def _make_room(self, request: Request, step: Step) -> bool:
        """Whether the request can grow by its last token, after preempting requests newer than it, newest first, and
        itself at last."""
        while not self.manager.can_append(request.name, 1):
            victim = self.running.pop() if self.running else request
            self._preempt(victim, step)
            if victim is request:
                return False
        return True

    def _preempt(self, victim: Request, step: Step) -> None:
        if self.preemption is Preemption.SWAP and self.manager.can_swap_out(victim.name):
            step.swapped_out += self.manager.swap_out(victim.name)
        else:
            self.manager.free(victim.name)
        step.preempted.append(victim)
        self.waiting.appendleft(victim)

    def _admit(self, step: Step) -> None:
        while self.waiting:
            request = self.waiting[0]
            admit = self._swap_in if request.name in self.manager.swapped else self._allocate
            if not admit(request, step):
                return
            self.running.append(self.waiting.popleft())

    def _swap_in(self, request: Request, step: Step) -> bool:
        missing = len(request.tokens) - self.manager.swapped[request.name].length
        if not self.manager.can_swap_in(request.name, missing):
            return False
        step.swapped_in += self.manager.swap_in(request.name)
        step.copies += self.manager.append(request.name, missing)
        step.decoding.append(request)
        return True

    def _allocate(self, request: Request, step: Step) -> bool:
        if self.manager.admission(request.tokens, request.salt) is not Admission.OK:
            return False
        self.manager.allocate(request.name, request.tokens, request.salt)
        step.admitted.append(request)
        return True
