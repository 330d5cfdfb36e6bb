"""The command `inspect`: a text as a model will see it, token by token, before anything is trained.

Must never read a model's weights, nor show another prompt than training and translating use.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ks_lottery.config.settings import TextConfig
from ks_lottery.corpus.batches import encode
from ks_lottery.corpus.forms import PromptForm
from ks_lottery.corpus.inspection import both_fertilities, lengths_of, shared_prefix
from ks_lottery.corpus.prompts import orders
from ks_lottery.corpus.selection import keep_useful
from ks_lottery.corpus.source import read_text
from ks_lottery.errors import UserError
from ks_lottery.models.load import load_tokenizer, open_checkpoint
from ks_lottery.models.rows import reachable_rows
from ks_lottery.models.vocabulary import token_strings
from ks_lottery.report.inspect_report import print_inspection
from ks_lottery.report.screen import Screen
from ks_lottery.store.files import to_json

if TYPE_CHECKING:
    import argparse

    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus


def run_inspect(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    if arguments.examples < 0:
        raise UserError(f"--examples is {arguments.examples}, but must be 0 or more")
    given = vars(arguments)
    names = {field.name for field in fields(TextConfig)} & set(given)
    config = TextConfig(train=arguments.text, **{name: given[name] for name in names})
    checkpoint = open_checkpoint(arguments.model)
    content = inspect_text(config, checkpoint, examples=arguments.examples, clean=not arguments.keep_all)
    if arguments.json:
        sys.stdout.write(to_json(content))
    else:
        print_inspection(Screen(total=1).console, content)
    return 0


def inspect_text(
    config: TextConfig, checkpoint: Checkpoint, *, examples: int = 3, clean: bool = True
) -> dict[str, Any]:
    """Return what `inspect` shows, as plain values.

    Parameters
    ----------
    examples
        How many examples to show token by token, the first of the text.
    clean
        Drop what a run drops: short pairs, placeholders, markup, repeated sources.

    Raises
    ------
    UserError
        When text, template or tokenizer cannot be used, or cleaning leaves nothing.
    """
    tokenizer = load_tokenizer(checkpoint)
    form = PromptForm(tokenizer, config.template)
    read = read_text(config)
    corpus, cleaning = (_cleaned(read, config)) if clean else (read, None)
    every = encode(tokenizer, corpus, template=config.template, max_tokens=sys.maxsize)[0]
    fitting = [example for example in every if len(example) <= config.max_tokens]
    names = token_strings(tokenizer, checkpoint.vocabulary)
    padding = checkpoint.config.get("pad_token_id")
    reached = reachable_rows([e.sequence for e in fitting], padding if isinstance(padding, int) else None)
    asked = orders(corpus)
    return {
        "text": {
            "origin": read.origin,
            "source_language": read.source_language,
            "target_language": read.target_language,
            "read": len(read),
            "left_out": {reason: count for reason, count in read.left_out.items() if count},
            "cleaning": cleaning,
            "pairs": len(corpus),
        },
        "model": {"name": checkpoint.name, "vocabulary": checkpoint.vocabulary, "context": checkpoint.context},
        "template": config.template,
        "end": {"id": form.end, "token": names[form.end]},
        "lengths": lengths_of(every, config.max_tokens),
        "shared_prefix": shared_prefix(every) if len(every) > 1 else 0,
        "reachable_rows": len(reached),
        "tokens_per_word": both_fertilities(tokenizer, corpus),
        "examples": [
            {
                "number": number,
                "source": pair.source,
                "target": pair.target,
                "prompt": form.render(asked[number], pair.source),
                "overlong": len(every[number]) > config.max_tokens,
                "tokens": _tokens(every[number], names),
            }
            for number, pair in enumerate(corpus.pairs[:examples])
        ],
    }


def _cleaned(read: Corpus, config: TextConfig) -> tuple[Corpus, str]:
    corpus, report = keep_useful(
        read, min_words=config.min_words, drop_placeholders=config.drop_placeholders, drop_markup=config.drop_markup
    )
    if not len(corpus):
        raise UserError(
            f"{read.origin}: {report.sentence()}: nothing is left to look at; --keep-all looks at all of it"
        )
    return corpus, report.sentence()


def _tokens(example: Example, names: list[str]) -> list[dict[str, Any]]:
    """Return each token, and whether the loss is taken on predicting it."""
    sides = [(token, False) for token in example.prompt] + [(token, True) for token in example.response]
    return [{"id": token, "token": names[token], "loss": loss} for token, loss in sides]
