"""The README.md of an exported adapter or model: what it is, how it is loaded, and the prompt that it was trained with."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.added_tokens import added_tokens
from ks_lottery.corpus.languages import language_name
from ks_lottery.corpus.numbered_tokens import numbered_tokens
from ks_lottery.corpus.prompts import CHAT, LANGUAGES, TEMPLATES, fill, with_languages
from ks_lottery.errors import UserError
from ks_lottery.models.card_data import front_matter
from ks_lottery.models.card_measures import RunFigures
from ks_lottery.models.card_names import short_name
from ks_lottery.models.card_parts import base_part, license_part, measured_parts
from ks_lottery.models.card_tickets import method_sentence, tickets_section
from ks_lottery.report.markdown import escaped, to_markdown
from ks_lottery.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint

_PEFT = (
    "from peft import PeftConfig, PeftModel\n"
    "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    'folder = "."  # of this file\n'
    "name = PeftConfig.from_pretrained(folder).base_model_name_or_path\n"
    "tokenizer = AutoTokenizer.from_pretrained(name)\n"
    'base = AutoModelForCausalLM.from_pretrained(name, dtype="float32")\n'
    "model = PeftModel.from_pretrained(base, folder)\n"
)

LOADING = {
    "peft": _PEFT,
    "lora": _PEFT,
    "merged": (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'folder = "."  # of this file\n'
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        'model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")\n'
    ),
}
"""Format of an export to the Python that loads it."""

GENERATING = (
    'inputs = tokenizer(prompt, return_tensors="pt")\n'
    "output = model.generate(**inputs, do_sample=False, max_new_tokens=64)\n"
    'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))\n'
)

_UNMERGED = (
    "Do not merge it with PEFT: the base may be tied, and merging writes into both sides. Export the merged folder "
    "with ks-lottery instead."
)

WARNINGS = {"peft": _UNMERGED, "lora": _UNMERGED}
"""Format of an export to what a user of it must not do."""

PROGRAMS = {"peft": "PEFT", "lora": "PEFT", "merged": "transformers"}
"""Format of an export to the library that its Python loads it with."""

ASKING = "curl http://127.0.0.1:8080/completion -d '%s'\n"
"""How the server of llama.cpp is asked; ``%s`` stands for a JSON object."""


@dataclass(frozen=True, kw_only=True)
class CardContent:
    """What is exported, in words, and how it was made.

    Parameters
    ----------
    what
        Title, such as ``18 rows of the input embedding``.
    change
        How it changes the base.
    base
        Name and fingerprint of the checkpoint that it was made on; empty where that is not recorded.
    settings
        Settings of its training; empty where they are not recorded.
    patch
        The rows; None for an adapter.
    """

    what: str
    change: str
    base: Mapping[str, Any]
    settings: Mapping[str, Any]
    patch: RowPatch | None = None

    @classmethod
    def of_patch(cls, patch: RowPatch) -> CardContent:
        """Describe a row patch."""
        of = {"input": "the input embedding", "output": "the output embedding", "both": "both embeddings"}[patch.side]
        change = "Everything but these rows is the base model, bit for bit."
        what = f"{len(patch)} rows of {of}"
        return cls(what=what, change=change, base=patch.base, settings=patch.settings, patch=patch)

    @classmethod
    def of_adapter(cls, base: Mapping[str, Any], settings: Mapping[str, Any]) -> CardContent:
        """Describe an adapter that is merged."""
        return cls(what="an adapter", change="The adapter is merged into the base model.", base=base, settings=settings)


def card(
    checkpoint: Checkpoint,
    made: RowPatch | CardContent,
    kind: str,
    *,
    notes: Sequence[str] = (),
    commands: str = "",
    dtype: str = "",
    exact: bool = True,
) -> str:
    """Return the text: front matter, then base, method, rows, text, scores, guarantee, prompt, use, licence, settings.

    Figures come from the run that the patch is in, and from nowhere else; without one the card says that nothing was measured.

    Parameters
    ----------
    checkpoint
        The base that it was put on.
    made
        What was exported.
    kind
        Key of `ks_lottery.config.choices.EXPORTS`.
    notes
        Sentences on this export, which come first.
    commands
        Commands for a shell that load it elsewhere.
    dtype
        Type that everything was rounded to; empty for none.
    exact
        Whether the export answers with the very rows that were measured (the default): what approximates or rounds them, or
        runs in another program, has no scores in the front matter and no guarantee.

    Raises
    ------
    UserError
        When a file of the run that the patch is in is damaged.
    """
    made = made if isinstance(made, CardContent) else CardContent.of_patch(made)
    figures = None if made.patch is None else RunFigures.beside(made.patch.folder, made.patch.content)
    title = f"{made.what} of {short_name(checkpoint.name)}"
    rounded = f" All of it is rounded to {dtype}." if dtype else ""
    told = " ".join(filter(None, ["Made with ks-lottery.", made.change + rounded, WARNINGS.get(kind, "")]))
    parts = [
        f"---\n{front_matter(checkpoint, kind, title, made.settings, figures, exact=exact)}---",
        f"# {escaped(title)}",
        told,
        *map(escaped, notes),
        f"## Base model\n\n{base_part(checkpoint, made.base)}",
        to_markdown([Section(title="Method", sentences=[method_sentence(made.settings)])]),
        *([] if made.patch is None else [f"## Rows\n\n{to_markdown([tickets_section(checkpoint, made.patch)])}"]),
        *measured_parts(made.patch, figures, exact=exact),
        f"## Prompt\n\n{_prompt(made)}",
        f"## Use\n\n{_use(made, kind, commands)}",
        license_part(checkpoint),
        f"## Settings\n\n{_block(json.dumps(dict(made.settings), indent=2))}",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _use(made: CardContent, kind: str, commands: str) -> str:
    """Return the code and the commands that load an export and ask it, for each program that loads it."""
    parts: list[str] = []
    if kind in LOADING:
        code = f"{_loading(made, kind)}{_prompt_code(made)}{GENERATING}"
        parts.append(f"In {PROGRAMS[kind]}:\n\n{fenced(code, 'python')}")
    else:
        prompts = prompts_of(made)
        asked: Any = "..."
        if prompts and not _is_numbered(made):
            asked = prompts[0].replace("{source}", "Your session has expired.")
        request = json.dumps({"prompt": asked, "n_predict": 64, "temperature": 0})
        commands += ASKING % request.replace("'", "\\u0027")
    if commands:
        program = "vLLM" if kind in LOADING else "llama.cpp"
        parts.append(f"In {program}:\n\n{fenced(commands, 'sh')}")
    return "\n\n".join(parts)


def _loading(made: CardContent, kind: str) -> str:
    """Return the Python that loads an export, with the tokenizer in its folder and longer matrices where it adds tokens."""
    added, code = added_tokens(made.settings), LOADING[kind]
    if kind == "merged" or (added is None and ("prompt" not in made.settings or _is_numbered(made))):
        return code
    code = code.replace("AutoTokenizer.from_pretrained(name)", "AutoTokenizer.from_pretrained(folder)")
    if added is None or not added.grows:
        return code
    resize = f"base.resize_token_embeddings({added.rows}, mean_resizing=False)\n"
    return code.replace("model = PeftModel", f"{resize}model = PeftModel")


def _block(text: str) -> str:
    """Return a block of code by indentation, which no text in it can end."""
    return textwrap.indent(text.rstrip("\n"), "    ", lambda _: True)


def fenced(text: str, language: str) -> str:
    r"""Return a block of code between fences that are longer than every run of backticks in it, so that no text ends it.

    >>> print(fenced("print('```')", "python"))
    ````python
    print('```')
    ````
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"


def _given(made: RowPatch | CardContent, name: str) -> str:
    value = made.settings.get(name)
    return value if isinstance(value, str) else ""


def prompts_of(made: RowPatch | CardContent) -> list[str]:
    """Return the prompts with instruction and languages, where these are known, and with ``{source}``.

    One, or those of a mix; none where only a tokenizer has it.
    """
    mix: Any = made.settings.get("templates")
    given = _given(made, "template")
    texts = mix if isinstance(mix, list) else [TEMPLATES.get(given, given)]
    order, names = _given(made, "instruction") or "{instruction}", _languages(made) or LANGUAGES
    return [
        fill(with_languages(text, *names), order, "{source}")
        for text in texts
        if isinstance(text, str) and "{source}" in text
    ]


def _languages(made: RowPatch | CardContent) -> tuple[str, str] | None:
    """Return the names of the languages of the training; None where the patch does not record both."""
    source, target = (_given(made, f"{side}_language") for side in ("source", "target"))
    return (_language(source), _language(target)) if source and target else None


def _prompt(made: RowPatch | CardContent) -> str:
    """Say with which prompt the rows were trained, as far as the patch records it."""
    template, order = _given(made, "template"), _given(made, "instruction")
    if not template:
        return "The patch does not record its prompt. Give the model the prompt of the training."
    names, prompts = _languages(made), prompts_of(made)
    languages = f", from {escaped(names[0])} to {escaped(names[1])}" if names else ""
    if template == CHAT:
        said = f"Template `chat`{languages}: the tokenizer's chat template, where the user's turn is an instruction, a line "
        return f"{said}break and the sentence. The instruction of the training:\n\n{_block(order or '(not recorded)')}"
    named = f"Template `{template}`" if template in TEMPLATES else "A template of its own"
    if len(prompts) > 1:
        named = f"{len(prompts)} templates, each sentence in one of them by a hash of the sentence"
    numbered = (
        "; `{token:N}` is the token of the id N, which has no text: give it as an id" if _is_numbered(made) else ""
    )
    blocks = "\n\nor\n\n".join(map(_block, prompts))
    return f"{named}{languages}; `{{source}}` is the sentence to translate{numbered}:\n\n{blocks}"


def _is_numbered(made: RowPatch | CardContent) -> bool:
    """Say whether a prompt has tokens that cannot be written as text."""
    return any(numbered_tokens(prompt) for prompt in prompts_of(made))


def _language(code: str) -> str:
    try:
        return language_name(code)
    except UserError:  # of a patch that another program wrote
        return code


def _prompt_code(made: RowPatch | CardContent) -> str:
    prompts = prompts_of(made)
    if prompts and not _is_numbered(made):
        return f'prompt = {json.dumps(prompts[0])}.replace("{{source}}", "Your session has expired.")\n'
    return 'prompt = "..."  # the prompt of the training, with the sentence\n'
