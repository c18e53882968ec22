"""The token budget: how much of each caption the text encoder chosen will read.

A text encoder cuts without a word what does not fit its window (77 tokens for the CLIP of Stable
Diffusion). Only its tokenizer is loaded here, so that this takes seconds for a large table.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from vesalius.core.paths import expanded
from vesalius.errors import VesaliusError

# Tokenizers that declare no limit report a huge integer (1e30); nothing real is near this.
_LONGEST_WINDOW = 100_000
_BATCH = 4096
_MOST_WORDS = 30
_MOST_EXAMPLES = 10


@dataclass(frozen=True)
class TokenCounter:
    """A text encoder's tokenizer; `window` is its longest text in tokens, special ones included."""

    name: str
    tokenizer: Tokenizer
    window: int

    @property
    def special(self) -> int:
        """Tokens that are put around every text."""
        return self.tokenizer.num_special_tokens_to_add(False)

    def count(self, text: str) -> int:
        """Tokens of a text, the special ones included."""
        return len(self.tokenizer.encode(text, add_special_tokens=False)) + self.special

    def lost(self, text: str) -> str | None:
        """The end of `text` that does not fit, from its first damaged word on; None if all fits."""
        return self._lost(text, self.tokenizer.encode(text, add_special_tokens=False))

    def measure(self, texts: Sequence[str]) -> Iterator[tuple[int, str | None]]:
        """`count` and `lost` of many texts at once."""
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for text, encoding in zip(texts, encoded, strict=True):
            yield len(encoding) + self.special, self._lost(text, encoding)

    def _lost(self, text: str, encoding: Any) -> str | None:
        room = self.window - self.special
        if len(encoding) <= room:
            return None
        cut = encoding.offsets[room][0]
        while cut > 0 and not text[cut - 1].isspace():
            cut -= 1
        return text[cut:].strip()


@lru_cache(maxsize=8)
def load_counter(name: str) -> TokenCounter:
    """The tokenizer of a bundled model, a local folder, or a hub id that is in the local cache.

    A folder may be a tokenizer's own or a model's with a `tokenizer` folder in it. Nothing is
    downloaded. Raises VesaliusError where there is no tokenizer or it declares no length.
    """
    bundled = Path(str(files("vesalius"))) / "bundled" / name
    if name.isidentifier() and bundled.is_dir():
        folder = bundled
    else:
        folder = expanded(name)
        if not folder.is_dir():
            folder = _cached(name)
    for place in (folder, folder / "tokenizer"):
        if tokenizer := _read_tokenizer(place):
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return TokenCounter(name, tokenizer, _read_window(place))
    raise VesaliusError(
        f"{name} holds no tokenizer (tokenizer.json, or vocab.json and merges.txt): name the "
        "folder of a text encoder's tokenizer"
    )


def budget(captions: Iterable[tuple[str, str]], counter: TokenCounter) -> dict[str, Any]:
    """What the text encoder will not read of `captions`, pairs of (row's key, caption).

    Returns what JSON can hold: `encoder`, `window`, `captions` (rows), `cut` (rows whose caption
    is too long), `longest` (tokens), `lost_words` (the 30 most frequent, with the rows that lose
    them) and `examples` (up to ten, the longest captions first).
    """
    rows: Counter[str] = Counter()
    first_key: dict[str, str] = {}
    for key, caption in captions:
        rows[caption] += 1
        first_key.setdefault(caption, key)
    longest, cut = 0, 0
    words: Counter[str] = Counter()
    examples: list[tuple[int, str, str]] = []  # tokens, caption, what is lost
    distinct = iter(rows)
    while batch := list(islice(distinct, _BATCH)):
        for caption, (tokens, lost) in zip(batch, counter.measure(batch), strict=True):
            longest = max(longest, tokens)
            if lost is None:
                continue
            cut += rows[caption]
            examples.append((tokens, caption, lost))
            for word in {part.strip(".,;:()[]\"'").lower() for part in lost.split()} - {""}:
                words[word] += rows[caption]
        examples = sorted(examples, key=lambda example: -example[0])[:_MOST_EXAMPLES]
    common = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:_MOST_WORDS]
    return {
        "encoder": counter.name,
        "window": counter.window,
        "captions": rows.total(),
        "cut": cut,
        "longest": longest,
        "lost_words": [{"word": word, "captions": count} for word, count in common],
        "examples": [
            {"key": first_key[caption], "caption": caption, "lost": lost}
            for _, caption, lost in examples
        ],
    }


def _cached(name: str) -> Path:
    """The folder of a hub id's tokenizer in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    wanted = ("tokenizer_config.json", "tokenizer/tokenizer_config.json")
    try:
        for file in wanted:
            if isinstance(path := try_to_load_from_cache(name, file), str):
                return Path(path).parent
    except HFValidationError:
        pass
    raise VesaliusError(
        f"no tokenizer {name!r}: there is no such folder, and no such hub id in the local cache "
        f"(`hf download {name}` gets one where there is a network)"
    )


def _read_tokenizer(folder: Path) -> Tokenizer | None:
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return _clip(folder)
        if (folder / "vocab.txt").is_file():
            return _bert(folder)
    except Exception as error:  # the library raises plain Exception for a damaged file
        raise VesaliusError(f"the tokenizer in {folder} cannot be read: {error}") from error
    return None


def _read_window(folder: Path) -> int:
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        window = int(settings.get("model_max_length", _LONGEST_WINDOW + 1))
    except (OSError, ValueError, TypeError, AttributeError):
        window = _LONGEST_WINDOW + 1
    if not 0 < window <= _LONGEST_WINDOW:
        raise VesaliusError(
            f"the tokenizer in {folder} declares no model_max_length: set it in "
            "tokenizer_config.json to the number of tokens that the text encoder reads"
        )
    return window


def _clip(folder: Path) -> Tokenizer:
    """CLIP's byte-level BPE, as Stable Diffusion 1.x keeps it: a vocabulary and its merges."""
    from tokenizers import Regex, models, normalizers, pre_tokenizers, processors

    start, end = "<|startoftext|>", "<|endoftext|>"
    vocab, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    model = models.BPE.from_file(
        vocab, merges, end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token=end
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    split = pre_tokenizers.Split(Regex(words), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.add_special_tokens([start, end])
    first, last = tokenizer.token_to_id(start), tokenizer.token_to_id(end)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} {end} $B {end}",
        special_tokens=[(start, first), (end, last)],
    )
    return tokenizer


def _bert(folder: Path) -> Tokenizer:
    """BERT's word pieces, as PubMedBERT keeps them: a vocabulary of one piece a line."""
    from tokenizers import BertWordPieceTokenizer

    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    lowercase = bool(settings.get("do_lower_case", True))
    pieces = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lowercase)
    return Tokenizer.from_str(pieces.to_str())
