"""Translating against a plain loop over `model.generate`: same batches and settings, prefill and decoding apart, equal outputs.

    python benchmarks/translate.py [--data DIR] [--sentences 32] [--beams 4] [--max-new-tokens 48] [--batch-size 16] [--runs 3]
                                   [--dtype float32] [--model MODEL] [--profile] [--out benchmarks/results/translate.json]

Text: FLORES dev in --data (flores200.dev.eng_Latn), else the embedded catalogs. Prefill is the time of the same batches with
one new token, and so holds for either side what stands before the second token: the prompts, for us also the shared prefix and
the copies for the beams, and the choice of the first token. Decoding is the whole without that. Each side runs in a fresh
process, in turns; a first batch of two tokens is not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import fresh, peak_mb, save

HERE = Path(__file__).resolve()
PROMPTS = "prompts.json"
SIDES = {
    "generate": "a loop over model.generate, prompts padded on the left",
    "ours": "evaluation.translate",
    "unshared": "ours, without the shared prefix: prompts once a sentence, beam cache",
    "plain cache": "ours, with the cache of transformers instead of the beam cache",
}
ABLATIONS = ("unshared", "plain cache")


def write_prompts(given: argparse.Namespace, folder: Path) -> None:
    """Render real sentences once for all sides."""
    from ks_lottery.corpus.gettext import read_catalogs
    from ks_lottery.corpus.prompt_form import PromptForm
    from ks_lottery.corpus.prompts import instruction
    from ks_lottery.models.load import load_tokenizer, open_checkpoint
    from ks_lottery.store.assets import catalog_files, catalog_root

    if given.data is None:
        corpus, _ = read_catalogs(catalog_files(), catalog_root(), target_language="ca")
        sentences = [pair.source for pair in corpus.pairs]
    else:
        sentences = (given.data / "flores200.dev.eng_Latn").read_text(encoding="utf-8").splitlines()
    form = PromptForm(load_tokenizer(open_checkpoint(given.model)))
    step = max(1, len(sentences) // given.sentences)
    chosen = [sentence.strip() for sentence in sentences[::step][: given.sentences]]
    prompts = form.prompts([instruction("en", "ca")] * len(chosen), chosen)
    (folder / PROMPTS).write_text(json.dumps(prompts))


def run_side(given: argparse.Namespace) -> None:
    """Measure one side in this process."""
    import torch

    from ks_lottery.corpus.batches import batches_by_length
    from ks_lottery.corpus.prompt_form import PromptForm, special_token
    from ks_lottery.evaluation import translate as ours
    from ks_lottery.models import prompt_cache
    from ks_lottery.models.load import load_model, open_checkpoint
    from ks_lottery.models.prefix import common_length

    loaded = load_model(open_checkpoint(given.model), dtype=given.dtype, device=given.device)
    lm = loaded.lm
    form = PromptForm(loaded.tokenizer)
    prompts = json.loads((given.folder / PROMPTS).read_text())
    batches = batches_by_length([len(p) for p in prompts], given.batch_size)
    stops, padding = ours.end_tokens(lm, form), special_token(form.tokenizer, "pad_token_id", "eos_token_id")
    shared = 0 if given.side == "unshared" else common_length(prompts)
    if given.side == "plain cache":
        prompt_cache.for_beams = repeated  # type: ignore[assignment]

    def settings(tokens: int) -> dict[str, Any]:
        return {
            "do_sample": False, "num_beams": given.beams, "max_new_tokens": tokens,
            "eos_token_id": stops, "pad_token_id": padding,
        }  # fmt: skip

    def peer(batch: list[int], tokens: int, _: Any) -> list[list[int]]:
        width = max(len(prompts[i]) for i in batch)
        ids = torch.full((len(batch), width), padding)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, width - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask[row, width - len(prompts[i]) :] = 1
        inputs = {"input_ids": ids.to(lm.device), "attention_mask": mask.to(lm.device)}
        with torch.inference_mode():
            return lm.generate(**inputs, **settings(tokens))[:, width:].tolist()

    def mine(batch: list[int], tokens: int, opening: Any) -> list[list[int]]:
        return ours.generate(lm, [prompts[i] for i in batch], settings(tokens), opening)

    call = peer if given.side == "generate" else mine

    def timed(tokens: int, which: list[list[int]]) -> tuple[float, list[list[int]]]:
        if given.device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        opening = None if given.side == "generate" else prompt_cache.shared_opening(lm, prompts[0][:shared])
        found = [row for batch in which for row in call(batch, tokens, opening)]
        if given.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, found

    timed(2, batches[-1:])
    prefill, _ = timed(1, batches)
    if given.profile:
        with torch.profiler.profile() as profile:
            timed(given.max_new_tokens, batches[:1])
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=16), file=sys.stderr)
    whole, found = timed(given.max_new_tokens, batches)
    print(json.dumps({
        "seconds": whole, "prefill": prefill, "decoding": whole - prefill, "sentences_per_second": len(prompts) / whole,
        "peak_mb": peak_mb(), "shared": shared, "outputs": found, "steps": [max(map(len, found))],
    }))  # fmt: skip


def repeated(cache: Any, beams: int) -> Any:
    """Repeat the cache of transformers for the beams."""
    cache.batch_repeat_interleave(beams)
    return cache


def main() -> None:
    """Measure, print and write; or be one of the fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="asset:smollm2-135m-instruct")
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--profile", action="store_true", help="print where the time of one batch goes, for each side once"
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "translate.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        run_side(given)
        return
    measured: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as scratch:
        write_prompts(given, Path(scratch))
        lengths = [len(prompt) for prompt in json.loads((Path(scratch) / PROMPTS).read_text())]
        for turn in range(given.runs):
            for side in SIDES if turn == 0 else [s for s in SIDES if s not in ABLATIONS]:
                call = [str(HERE), "--side", side, "--folder", scratch, "--model", given.model]
                for name in ("beams", "max_new_tokens", "batch_size", "dtype", "device"):
                    call += [f"--{name.replace('_', '-')}", str(getattr(given, name))]
                measured[side].append(fresh(call, runs=1))
    report(given, lengths, measured)


def report(given: argparse.Namespace, lengths: list[int], measured: dict[str, list[dict[str, Any]]]) -> None:
    """Print medians and ratios, and write them."""
    first = measured["generate"][0]["outputs"]
    sides: dict[str, Any] = {}
    print(
        f"{given.sentences} sentences, prompts of {min(lengths)}-{max(lengths)} tokens, {given.beams} beams, {given.dtype}"
    )
    print(f"{'':14}{'prefill s':>11}{'decoding s':>11}{'whole s':>9}{'sentences/s':>13}{'MB':>8}{'as generate':>13}")
    for side, runs in measured.items():
        one = {
            name: statistics.median(run[name] for run in runs) for name in ("prefill", "decoding", "seconds", "peak_mb")
        }
        equal = min(sum(a == b for a, b in zip(run["outputs"], first, strict=True)) for run in runs)
        sides[side] = {
            **one, "runs": [[run["prefill"], run["seconds"]] for run in runs], "shared": runs[0]["shared"],
            "sentences_per_second": given.sentences / one["seconds"], "equal_to_generate": equal,
        }  # fmt: skip
        print(
            f"{side:14}{one['prefill']:11.2f}{one['decoding']:11.2f}{one['seconds']:9.2f}"
            f"{given.sentences / one['seconds']:13.2f}{one['peak_mb']:8,.0f}{equal:9} of {given.sentences}"
        )
    pairs = list(zip(measured["generate"], measured["ours"], strict=True))
    ratios = {
        name: statistics.median(peer[key] / mine[key] for peer, mine in pairs)
        for name, key in (("prefill", "prefill"), ("decoding", "decoding"), ("whole", "seconds"))
    }
    print("times faster, median of the turns: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    settings = {key: str(value) for key, value in vars(given).items() if key not in {"side", "folder", "out", "data"}}
    about = {"text": "embedded catalogs" if given.data is None else "FLORES-200 dev, English", "prompt_tokens": lengths}
    save(given.out, {"settings": {**settings, **about}, "sides": SIDES, "measured": sides, "ratios": ratios})


if __name__ == "__main__":
    main()
