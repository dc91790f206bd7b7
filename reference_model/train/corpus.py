"""From a text to batches.

The batch of a step depends on the seed and the step alone, so a run can be resumed at any step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from reference_model.errors import ModelError
from reference_model.train.network import Batch
from reference_model.train.recall import RECORD_TOKENS, Ids, Recall, record_text
from reference_model.train.recipe import Phase, Recipe

END_OF_TEXT = "<|endoftext|>"
PIECE_CHARS = 20_000
HELD_OUT_EVERY = 20


def train_tokenizer(text: str, vocab_size: int, recall: bool = True) -> Tokenizer:
    """Byte-level BPE, digits one by one, trained on the text.

    For recall, it also sees so many records that their marks become tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text, *[record_text("", "") * max(len(text) // 400, 100)] * recall], trainer)
    return tokenizer


@dataclass(frozen=True)
class Corpus:
    """Token streams. Every HELD_OUT_EVERY-th piece of the text is kept from training, for validation."""

    training: Ids
    validation: Ids
    recall: Recall | None

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer, context: int, recall: bool = True) -> Corpus:
        """The streams of a text.

        Raises ModelError when the text is too short to fill two contexts of each stream or, for recall, has too few
        words."""
        size = max(min(PIECE_CHARS, len(text) // HELD_OUT_EVERY), 1)
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        held = pieces[HELD_OUT_EVERY // 2 :: HELD_OUT_EVERY]
        kept = [piece for index, piece in enumerate(pieces) if index % HELD_OUT_EVERY != HELD_OUT_EVERY // 2]
        training, validation = (
            np.concatenate([np.array(e.ids, np.int64) for e in tokenizer.encode_batch(part)] or [np.zeros(0, np.int64)])
            for part in (kept, held)
        )
        if min(len(training), len(validation)) < 2 * context:
            raise ModelError(
                f"the text gives {len(training)} tokens for training and {len(validation)} for validation, "
                f"a context of {context} needs twice that of each: use a longer text or a shorter context"
            )
        return cls(training, validation, Recall.of(tokenizer) if recall else None)

    def batch(self, recipe: Recipe, step: int) -> Batch:
        """The training batch of a step.

        Its rows are text, dense records, or text with planted records, in the mix of the step's phase."""
        phase = recipe.phase_at(step)
        rng = np.random.default_rng([recipe.seed, 1, step])
        rows = [self._row(rng, recipe, phase) for _ in range(max(recipe.batch_tokens // phase.context, 1))]
        tokens, weights = (np.stack(parts) for parts in zip(*rows, strict=True))
        return Batch(tokens[:, :-1], tokens[:, 1:], weights[:, 1:])

    def validation_batches(self, context: int, rows: int) -> list[Batch]:
        """The whole held-out stream in windows of `context`, `rows` at a time. Every target has weight one."""
        starts = np.arange(0, len(self.validation) - context, context)
        windows = self.validation[starts[:, None] + np.arange(context + 1)]
        chunks = [windows[at : at + rows] for at in range(0, len(windows), rows)]
        return [Batch(chunk[:, :-1], chunk[:, 1:], np.ones(chunk[:, 1:].shape, np.float32)) for chunk in chunks]

    def _row(self, rng: np.random.Generator, recipe: Recipe, phase: Phase) -> tuple[Ids, np.ndarray]:
        """tokens [context + 1], and the weight of each as a target.

        The weight is zero for what is not to be learnt, and higher for a value that can be recalled."""
        kind = rng.random()
        length = phase.context + 1
        weights = np.ones(length, np.float32)
        if self.recall is None or kind >= phase.dense + phase.planted:
            return self._window(rng, length), weights
        if kind < phase.dense:
            exercise = self.recall.dense(rng, length)
        else:
            count = int(rng.integers(1, min(recipe.max_planted, length // 40) + 1))
            exercise = self.recall.planted(rng, self._window(rng, length - 2 * RECORD_TOKENS * count), count)
        weights[exercise.unlearnt] = 0
        weights[exercise.answers] = recipe.answer_weight
        return exercise.tokens, weights

    def _window(self, rng: np.random.Generator, length: int) -> Ids:
        start = int(rng.integers(0, len(self.training) - length))
        return self.training[start : start + length]
