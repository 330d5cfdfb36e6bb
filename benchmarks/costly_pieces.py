"""New tokens for the words that cost most, against plain tuning of as many rows: bits a character on text of its own.

    python benchmarks/costly_pieces.py TRAIN TEST [--pairs 512] [--sentences 300] [--count 256] [--work DIR]
        [--out benchmarks/results/costly_pieces.json]

TRAIN and TEST are English-Catalan TSV files, as ``python benchmarks/recipe_text.py`` makes them. Each of three trainings of
SmolLM2-135M-Instruct has one epoch and as many rows, on both sides, hence files of equal bytes:

- ``pieces``: new tokens for the --count words of the training text that cost most tokens (``--tokens auto``);
- ``half``: half as many of them, and as many rows of the tokens that occur most (``--also-rows``);
- ``occurrence``: the rows that occur most, no new token: plain embed tuning of as many rows.

Accuracy and loss by token cannot be compared across tokenizers. The probability of one and the same text can: bits a character
are the sum of -log2 p over the tokens of the reference, including its end, divided by its characters. The share of bytes in
rightly predicted tokens is printed too; short tokens raise it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from ks_lottery import RowPatch, Tickets, load_model, read_corpus, tune
from ks_lottery.config.choices import DEFAULT_MODEL
from ks_lottery.corpus.batches import encode
from ks_lottery.evaluation.measured import measured_text
from ks_lottery.evaluation.next_token import predict
from ks_lottery.models.equipped import equipped, open_on
from ks_lottery.tuning.tune import prepare
from ks_lottery.tuning.tune_spec import TuneSpec
from measuring import save


def measured(loaded: Any, patch: RowPatch | None, corpus: Any) -> dict[str, float]:
    """Return what a model, with a patch on it, says of the references of a text."""
    patch, model = open_on(patch, loaded)
    text = measured_text(model, corpus)
    with equipped(model, patch) as ready:
        found = predict(ready.labelled, text.examples)
    added = {} if patch is None or patch.added is None else dict(zip(patch.added.ids, patch.added.texts, strict=True))
    names = model.tokenizer.convert_ids_to_tokens(found.label.tolist())
    size = np.array([len(added.get(token, name).encode() if token in added else name)
                     for token, name in zip(found.label.tolist(), names, strict=True)])  # fmt: skip
    size[found.label == model.tokenizer.eos_token_id] = 0
    characters = sum(len(pair.target) for pair in text.corpus)
    return {
        "tokens_a_sentence": round(len(found) / len(text.examples), 2),
        "prompt_tokens_a_sentence": round(float(np.mean([len(e.prompt) for e in text.examples])), 2),
        "bits_a_character": round(float(-found.log_p.sum() / np.log(2) / characters), 4),
        "bytes_in_predicted_tokens": round(float((size * found.correct).sum() / size.sum()), 4),
        "accuracy": round(found.accuracy, 4),
        "sentences": len(text.examples),
    }


def main() -> None:
    """Train what is not there yet, and measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--sentences", type=int, default=300)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--work", type=Path, default=Path("runs/costly-pieces"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/costly_pieces.json"))
    asked = parser.parse_args()
    train = read_corpus(asked.train, source_language="en", target_language="ca").head(asked.pairs)
    test = read_corpus(asked.test, source_language="en", target_language="ca").head(asked.sentences)
    loaded = load_model(DEFAULT_MODEL, device="cpu")
    common = {"side": "both", "epochs": 1, "learning_rate": 1e-2}
    most = prepare(loaded, train, TuneSpec(method="occurrence", size=asked.count)).rows
    assert most is not None
    ways: dict[str, dict[str, Any]] = {
        "pieces": {"method": "new-tokens", "count": asked.count},
        "occurrence": {"method": "occurrence", "size": asked.count},
        "half": {
            "method": "new-tokens", "count": asked.count // 2,
            "also_rows": Tickets(rows=most.rows[: asked.count - asked.count // 2], rule={"selector": "occurrence"}),
        },
    }  # fmt: skip
    figures: dict[str, Any] = {"original": measured(loaded, None, test)}
    print("original", figures["original"], flush=True)
    for name, settings in ways.items():
        folder = asked.work / name
        start = time.perf_counter()
        if not (folder / "patch.safetensors").is_file():
            tune(loaded, train, **common, **settings).save(folder)
        seconds = time.perf_counter() - start
        patch = RowPatch.open(folder)
        _, model = open_on(patch, loaded)
        tokens = sum(len(e.sequence) for e in encode(model.tokenizer, train)[0])
        figures[name] = {
            **measured(loaded, patch, test), "rows": len(patch), "training_tokens": tokens, "training_seconds": round(seconds),
            "bytes": (folder / "patch.safetensors").stat().st_size,
        }  # fmt: skip
        print(name, figures[name], flush=True)
    save(asked.out, {"model": DEFAULT_MODEL, "pairs": len(train), "count": asked.count, "systems": figures})


if __name__ == "__main__":
    main()
