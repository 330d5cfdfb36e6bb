"""What `inspect` prints: examples token by token with the loss mask, the lengths, and what is too long.

Must never print a token or a prompt raw: they may hold control characters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

BAR = 40
"""Width of the longest bar, in characters."""


def print_inspection(console: Console, content: Mapping[str, Any]) -> None:
    """Print what `inspect_text` found."""
    shared = content["shared_prefix"]
    for place, example in enumerate(content["examples"]):
        _print_example(console, example, shared if place else 0)
    console.print(lengths_table(content["lengths"]))
    console.print()
    for line in [*bars(content["lengths"]), "", *sentences(content)]:
        console.print(line, markup=False)


def _print_example(console: Console, example: Mapping[str, Any], shared: int) -> None:
    tokens = example["tokens"]
    labels = sum(token["loss"] for token in tokens)
    long = " (too long: left out)" if example["overlong"] else ""
    console.print(
        f"Example {example['number'] + 1}: {len(tokens)} tokens, {labels} of them with loss{long}; prompt, then tokens:",
        markup=False,
    )
    console.print()
    for line in example["prompt"].split("\n"):
        console.print(f"  | {_printable(line)}", markup=False)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("place", "id"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("token")
    table.add_column("loss")
    if shared:
        table.add_row(f"0-{shared - 1}", "", "as in the first example", "")
    for place, token in enumerate(tokens):
        if place >= shared:
            table.add_row(str(place), str(token["id"]), _plain(token["token"]), "loss" if token["loss"] else "")
    console.print(table)
    console.print()


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def lengths_table(lengths: Mapping[str, Any]) -> Table:
    """Return the distribution of each length in tokens."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tokens")
    names = list(lengths["total"])
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for part in ("prompt", "response", "total"):
        values = lengths[part]
        table.add_row(part, *(f"{values[name]:.1f}" if name == "mean" else f"{values[name]:,}" for name in names))
    return table


def bars(lengths: Mapping[str, Any]) -> list[str]:
    """Return the histogram of the examples' lengths; a bin that is not empty has a bar."""
    bins = lengths["histogram"]
    most = max(entry["count"] for entry in bins)
    labels = [f"{entry['from']}-{entry['to']}" if entry["to"] > entry["from"] else str(entry["from"]) for entry in bins]
    wide = max(len(label) for label in labels)
    return [
        f"{label:>{wide}}  {'#' * -(-entry['count'] * BAR // most)} {entry['count']:,}"
        for label, entry in zip(labels, bins, strict=True)
    ]


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Say what was read, what the loss is taken on, what is too long and what to do about it, and what training reaches."""
    text, lengths, model = content["text"], content["lengths"], content["model"]
    lines = [
        f"{text['read']:,} pairs read from {text['origin']}, {text['source_language']} to {text['target_language']}."
    ]
    if text["left_out"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in text["left_out"].items())
        lines.append(f"Left out in reading: {reasons}.")
    if text["cleaning"]:
        lines.append(f"{text['cleaning']}.")
    lines.append(
        f"The loss is taken on the response with its end token {content['end']['token']} ({content['end']['id']}) alone: "
        f"{lengths['loss_share']:.1%} of the tokens."
    )
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
    lines.append(
        f"All prompts begin with the same {content['shared_prefix']} tokens, which training computes once a batch."
    )
    lines.append(f"Training reaches {content['reachable_rows']:,} of {model['vocabulary']:,} rows of the embedding.")
    for side in ("source", "target"):
        found = content["tokens_per_word"][side]
        lines.append(f"{found['ratio']:.2f} tokens a {found['unit']} in {found['language']} ({side}).")
    return lines
