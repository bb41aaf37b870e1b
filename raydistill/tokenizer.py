"""The tokenizer of a student: text to tokens with character offsets, and back.

It runs without torch or transformers, so that an extractor actor stays small. Learned ones are
byte-level BPE in which every word, year, other digit and punctuation mark begins a token, so that
nearly every span a teacher copies begins and ends with a token and can be pointed at.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as RawTokenizer

from raydistill.errors import SetupError
from raydistill.pieces import WORDS, Piece, Pieces
from raydistill.target import Source

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text: token ids, token strings and characters (start, end) of each token."""

    ids: list[int]
    source: Source
    tokenizer: "Tokenizer"

    @property
    def tokens(self) -> list[str]:
        """The token strings, which readers of ids do without."""
        return [self.tokenizer.token(one) for one in self.ids]


class Tokenizer:
    """A `tokenizers` tokenizer whose added tokens never match inside text."""

    def __init__(self, raw: RawTokenizer) -> None:
        self.raw = raw
        # Text that happens to contain "<null>" stays text: only a target writes added tokens.
        raw.encode_special_tokens = True
        raw.no_padding()
        raw.no_truncation()

    @classmethod
    def learn(cls, texts: Iterable[str], added: Sequence[str], *, vocabulary: int) -> "Tokenizer":
        """A tokenizer of `vocabulary` pieces learned from `texts`, and `added` tokens on top."""
        raw = RawTokenizer(models.BPE(unk_token=UNK))
        raw.pre_tokenizer = _splitting()
        raw.decoder = decoders.ByteLevel()
        raw.post_processor = _ending()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, BOS, EOS, UNK],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        raw.train_from_iterator(texts, trainer)
        raw.add_special_tokens(list(added))
        return cls(raw)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """The tokenizer of a dataset, student or release folder."""
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise SetupError(
                f"{file} is missing", expected="a folder with tokenizer.json", todo="check the path"
            )
        try:
            return cls(RawTokenizer.from_file(str(file)))
        except Exception as problem:  # tokenizers raises plain Exception
            raise SetupError(
                f"{file} is not a tokenizer: {problem}", todo="write it again"
            ) from None

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json and the config that lets transformers read it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.raw.save(str(folder / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": PAD,
            "bos_token": BOS,
            "eos_token": EOS,
            "unk_token": UNK,
            "clean_up_tokenization_spaces": False,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))

    def __len__(self) -> int:
        return self.raw.get_vocab_size(with_added_tokens=True)

    def id(self, token: str) -> int:
        """The token's id; SetupError where the tokenizer lacks it."""
        found = self.raw.token_to_id(token)
        if found is None:
            raise SetupError(
                f"the tokenizer has no token {token!r}", todo="build the dataset again"
            )
        return found

    def ids(self, tokens: Sequence[str]) -> list[int]:
        """The ids of token strings, unknown ones as `<unk>`."""
        unknown: Any = self.raw.token_to_id(UNK)
        found = (self.raw.token_to_id(token) for token in tokens)
        return [int(unknown if one is None else one) for one in found]

    def token(self, id: int) -> str:
        """The token string of an id."""
        return self.raw.id_to_token(id) or UNK

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Each text's ids, tokens and offsets, without marks at either end."""
        made = self._pieces(texts)
        rest = [text for text, one in zip(texts, made, strict=True) if one is None]
        asked = iter(self.raw.encode_batch(rest, add_special_tokens=False))
        out: list[Encoded] = []
        for text, one in zip(texts, made, strict=True):
            if one is None:
                raw = next(asked)
                out.append(Encoded(raw.ids, Source(text, raw.offsets), self))
            else:
                out.append(Encoded(one.ids, Source(text, one.spans), self))
        return out

    def batch_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's token ids; faster than `encode`, without offsets."""
        made = self._pieces(texts)
        rest = [text for text, one in zip(texts, made, strict=True) if one is None]
        asked = iter(self.raw.encode_batch_fast(rest, add_special_tokens=False))
        return [next(asked).ids if one is None else one.ids for one in made]

    def _pieces(self, texts: Sequence[str]) -> list[Piece | None]:
        """What can be put together of remembered words, None for the rest."""
        pieces = self.pieces
        return [pieces.of(text) if pieces else None for text in texts]

    @cached_property
    def pieces(self) -> Pieces | None:
        """The words that it remembers; None where it does not split by words."""
        return Pieces(self._piece) if _by_words(self.raw) else None

    def _piece(self, text: str) -> Piece:
        made = self.raw.encode(text, add_special_tokens=False)
        return Piece(made.ids, made.offsets)

    def spell(self, text: str) -> list[str]:
        """The text as token strings."""
        return self.raw.encode(text, add_special_tokens=False).tokens

    def unspell(self, tokens: Sequence[str]) -> str:
        """The text of token strings; bytes that are no UTF-8 come back as U+FFFD."""
        return str(self.raw.decoder.decode(list(tokens))) if tokens else ""


def _splitting() -> Any:
    """What splits a text before its words become bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _ending() -> Any:
    """What takes the spaces before a word out of its token's characters."""
    return processors.ByteLevel(trim_offsets=True)


def _by_words(raw: RawTokenizer) -> bool:
    """Whether it does nothing to a text but split it by WORDS; pretrained ones do more."""
    state = json.loads(raw.to_str())
    parts = {"pre_tokenizer": _splitting(), "post_processor": _ending()}
    return (
        state["model"]["type"] == "BPE"
        and not any(state[name] for name in ("normalizer", "truncation", "padding"))
        and all(state[name] == json.loads(one.__getstate__()) for name, one in parts.items())
    )
