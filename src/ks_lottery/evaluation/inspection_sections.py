"""How an inspection shows itself: examples token by token with the loss mask, the lengths, and what is too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ks_lottery.report.section import Column, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

BAR = 40
"""Width of the longest bar, in characters."""


def inspection_sections(content: Mapping[str, Any]) -> list[Section]:
    """Return the examples, the lengths, and what to know about them; see `ks_lottery.evaluation.inspect.Inspection`."""
    sections: list[Section] = []
    for place, example in enumerate(content["examples"]):
        sections += _example(example, content["shown_prefix"] if place else 0)
    return [
        *sections,
        _lengths(content["lengths"]),
        Section(sentences=_bars(content["lengths"])),
        Section(sentences=_sentences(content)),
    ]


def _example(example: Mapping[str, Any], shared: int) -> list[Section]:
    """Return a prompt as it is, and the tokens but the `shared` first ones, which the first example shows."""
    tokens = example["tokens"]
    labels = sum(token["loss"] for token in tokens)
    long = " (too long: left out)" if example["overlong"] else ""
    begin = "prompt, then " if example["prompt"] else ""
    title = f"Example {example['number'] + 1}: {len(tokens)} tokens, {labels} of them with loss{long}; {begin}tokens:"
    columns = [
        Column(title="position", form="d"), Column(title="id", form="d"), Column(title="token", cut="end"), Column(title="loss")
    ]  # fmt: skip
    rows: list[list[Any]] = [[f"0-{shared - 1}", "", "as in the first example", ""]] if shared else []
    rows += [
        [place, token["id"], token["token"], "loss" if token["loss"] else ""]
        for place, token in enumerate(tokens)
        if place >= shared
    ]
    return [
        Section(title=title),
        *([Section(sentences=[f"  | {line}" for line in example["prompt"].split("\n")])] if example["prompt"] else []),
        Section(columns=columns, rows=rows, keys=3),
    ]


def _lengths(lengths: Mapping[str, Any]) -> Section:
    """Return the distribution of each length in tokens."""
    names = list(lengths["total"])
    columns = [
        Column(title="tokens"), *(Column(title=name, form=".1f" if name == "mean" else "integer") for name in names)
    ]  # fmt: skip
    rows = [[part, *(lengths[part][name] for name in names)] for part in ("prompt", "response", "total")]
    return Section(columns=columns, rows=rows)


def _bars(lengths: Mapping[str, Any]) -> list[str]:
    """Return the histogram of the examples' lengths; a bin that is not empty has a bar."""
    bins = lengths["histogram"]
    most = max(entry["count"] for entry in bins)
    labels = [f"{entry['from']}-{entry['to']}" if entry["to"] > entry["from"] else str(entry["from"]) for entry in bins]
    wide = max(len(label) for label in labels)
    return [
        f"{label:>{wide}}  {'#' * -(-entry['count'] * BAR // most)} {entry['count']:,}"
        for label, entry in zip(labels, bins, strict=True)
    ]


def _sentences(content: Mapping[str, Any]) -> list[str]:
    """Say what was read, what the loss is taken on, what is too long and what to do about it, and what training reaches."""
    text, lengths, model = content["text"], content["lengths"], content["model"]
    plain = text["unit"] == "texts"
    languages = text["target_language"] if plain else f"{text['source_language']} to {text['target_language']}"
    lines = [f"{text['read']:,} {text['unit']} read from {text['origin']}, {languages}."]
    if text["left_out"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in text["left_out"].items())
        lines.append(f"Left out in reading: {reasons}.")
    if text["cleaning"]:
        lines.append(f"{text['cleaning']}.")
    if text["columns"]:
        lines.append(text["columns"])
    end = f"its end token {content['end']['token']} ({content['end']['id']})"
    where = f"all of the text but its beginning, and on {end}" if plain else f"the response with {end} alone"
    lines.append(f"The loss is taken on {where}: {lengths['loss_share']:.1%} of the tokens.")
    limit, longest = lengths["max_tokens"], lengths["total"]["max"]
    if lengths["overlong"]:
        lines.append(
            f"{lengths['overlong']:,} of {text['pairs']:,} examples have more than {limit} tokens and are left out of "
            f"training: raise max_tokens to {longest} to keep all, or split long sentences."
        )
    else:
        lines.append(f"No example has more than {limit} tokens; the longest has {longest}.")
    context = model["context"]
    if context is not None and min(limit, longest) > context:
        lines.append(f"The model looks at {context:,} tokens at most: set max_tokens to {context} or less.")
    shared = content["shared_prefix"]
    if plain:
        lines.append("Texts of one language are shown without a prompt.")
    elif shared:
        lines.append(f"All prompts begin with the same {shared} tokens, which training computes once a batch.")
    else:
        lines.append("The prompts do not begin with enough equal tokens for training to compute them once a batch.")
    lines.append(f"Training reaches {content['reachable_rows']:,} of {model['vocabulary']:,} rows of the embedding.")
    for side, ratio in content["tokens_per_word"].items():
        lines.append(f"{ratio['ratio']:.2f} tokens a {ratio['unit']} in {ratio['language']} ({side}).")
    return lines
