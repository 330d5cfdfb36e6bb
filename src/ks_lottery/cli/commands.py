"""The commands: what each is for, its settings, an example, and the flags that had another name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ks_lottery.config.job_commands import DemoSettings, ExportSettings, RunSettings, TranslateSettings
from ks_lottery.config.measure_commands import AgreeSettings, CertifySettings, EvaluateSettings, WhereSettings
from ks_lottery.config.recipe_commands import ReproduceSettings, StoreSettings
from ks_lottery.config.report_commands import ReportSettings, WatchSettings
from ks_lottery.config.service_commands import CompletionSettings, DoctorSettings, PushSettings
from ks_lottery.config.ticket_commands import (
    AlikeSettings,
    ExplainSettings,
    OverlapSettings,
    ScanSettings,
    SelectSettings,
)
from ks_lottery.config.train_commands import InspectSettings, TransferSettings, TuneSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command; its file, which has a function `run` of its settings, is beside this one.

    Parameters
    ----------
    task
        Heading of the command in the help of the program.
    summary
        Line of help.
    settings
        Class of its settings, from which flags and YAML keys are made.
    example
        A command line that works, without the name of the program.
    usage
        What follows the command in its usage line, where its settings do not say it: they are required only without a flag.
    notes
        Text below the flags.
    resumes
        Whether the same command resumes after it was stopped.
    file_first
        Whether the first word without a flag is a YAML file, as with ``--config``.
    shows_stages
        Whether it shows its stages on standard output; otherwise lines on standard error say that it still works.
    opens_models
        Whether it may open a model, whose terms of use the user may have to accept.
    renamed
        Old flag, or ``argument`` for a word without one, to the flag that took its place.
    """

    task: str
    summary: str
    settings: type
    example: str
    usage: str = ""
    notes: str = ""
    resumes: bool = False
    file_first: bool = False
    shows_stages: bool = False
    opens_models: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)


COMMANDS = {
    "demo": Command(
        task="main job",
        summary="the main job on the embedded model and text, in minutes",
        settings=DemoSettings,
        shows_stages=True,
        example="demo --target-language de --out runs/de",
        resumes=True,
        renamed={"--target": "--target-language"},
    ),
    "run": Command(
        task="main job",
        summary="the main job on your own model and text",
        settings=RunSettings,
        shows_stages=True,
        example="run --model.name HuggingFaceTB/SmolLM2-360M --text.train pairs.tsv --out runs/mine",
        notes="Every key of config.yaml is a flag as well. Flags override the file, and the file overrides the defaults.",
        resumes=True,
        file_first=True,
    ),
    "inspect": Command(
        task="text",
        summary="a text as the model will see it: tokens, loss mask, lengths",
        settings=InspectSettings,
        example="inspect pairs.tsv --model HuggingFaceTB/SmolLM2-360M --template chat",
        renamed={"--keep-all": "--no-clean"},
    ),
    "tune": Command(
        task="train",
        summary="tune a model: rows, LoRA, prefix and other methods of the paper",
        settings=TuneSettings,
        shows_stages=True,
        example="tune MODEL --method embed --train pairs.tsv --out runs/embed",
        notes=(
            "On a small model the paper's learning rate of embed tuning moves no row measurably: there one that fits the "
            "model's rows is used, and the command says so. The same command resumes an interrupted training. Several "
            "processes: start it with torchrun or accelerate launch; a step then has processes x batch-size x "
            "gradient-accumulation examples. What is trained is float32; full tuning computes in the type of the body."
        ),
        resumes=True,
    ),
    "transfer": Command(
        task="train",
        summary="write a patch with only the tickets' tuned values",
        settings=TransferSettings,
        example="transfer MODEL runs/embed --tickets tickets.json --out runs/transfer",
    ),
    "scan": Command(
        task="find tickets",
        summary="what fine-tuning changed: test every row of two checkpoints",
        settings=ScanSettings,
        shows_stages=True,
        example="scan BASE TUNED --out scan.parquet",
    ),
    "select": Command(
        task="find tickets",
        summary="select tickets from a saved scan",
        settings=SelectSettings,
        example="select scan.parquet --alpha 0.05 --out tickets.json",
        renamed={"--data": "--corpus"},
    ),
    "overlap": Command(
        task="find tickets",
        summary="how much sets of tickets share, and which rows are in all of them",
        settings=OverlapSettings,
        opens_models=False,
        example="overlap ca=runs/ca/tickets.json de=runs/de/tickets.json",
    ),
    "explain": Command(
        task="find tickets",
        summary="what tickets are: tokens, ranks by rival scores, frequency in a text",
        settings=ExplainSettings,
        example="explain tickets.json --scan scan.parquet --corpus text.ca",
    ),
    "alike": Command(
        task="find tickets",
        summary="test if two tunings gave the same rows similar values",
        settings=AlikeSettings,
        opens_models=False,
        example="alike runs/embed runs/partial --tickets tickets.json",
        renamed={"--alpha": "--level", "--alphas": "--level"},
    ),
    "evaluate": Command(
        task="measure and certify",
        summary="translate a text and score it; next-token accuracy and loss",
        settings=EvaluateSettings,
        shows_stages=True,
        example="evaluate MODEL --patch runs/partial --data test.tsv --out runs/scores",
        notes=(
            "spBLEU needs sacrebleu's SentencePiece model, which is fetched once; or give its path. Without it the other "
            "metrics are scored, and one line says where to put the file. The same command resumes."
        ),
        resumes=True,
    ),
    "where": Command(
        task="measure and certify",
        summary="in which part of a text the rows of a patch act: instruction, source or target",
        settings=WhereSettings,
        shows_stages=True,
        example="where MODEL --patch runs/partial --data test.tsv --limit 200 --controls",
        notes=(
            "The rows of the patch are active in some parts of each sentence alone; elsewhere a token has the base's row. The "
            "figures describe one patch on one text; none of the comparisons was fixed beforehand."
        ),
    ),
    "certify": Command(
        task="measure and certify",
        summary="when a small model answers like the tuned one: bound, audit, guarantee",
        settings=CertifySettings,
        shows_stages=True,
        usage="MODEL --tuned DIR --data TEXT",
        example="certify MODEL --tuned runs/embed --transfer --data test.tsv --calibration 0.5 --out runs/certificate",
        notes=(
            "The certificate is the paper's bound, which holds under the assumptions of theorem 2 and is audited; with "
            "calibration text comes a guarantee, which assumes nothing of the models. Both are written to --out, with every "
            "position."
        ),
        renamed={"--seed": "--split-seed"},
    ),
    "agree": Command(
        task="measure and certify",
        summary="how often any models answer like a reference, guaranteed",
        settings=AgreeSettings,
        example="agree MODEL model-Q8_0.gguf model-Q4_0.gguf --data lines.txt --calibration 300 --fail-below 0.98",
        notes=(
            "The text is plain, one sentence a line, unless its ending, --format or --target says that it is parallel. The "
            "models are loaded one after the other and must share a tokenizer. Exit code 1 where --fail-below is not "
            "guaranteed, or --choose finds no candidate."
        ),
    ),
    "report": Command(
        task="look",
        summary="one HTML page of a run, a scan, a certificate, an evaluation or a recipe's results",
        settings=ReportSettings,
        opens_models=False,
        example="report runs/demo --open",
        notes="The page needs no network and no other file. It is made from what was saved, and loads no model.",
    ),
    "watch": Command(
        task="look",
        summary="the report of a run in progress, on this machine alone, refreshed by itself",
        settings=WatchSettings,
        opens_models=False,
        example="watch runs/demo --open",
    ),
    "reproduce": Command(
        task="recipes",
        summary="the tables of a recipe, such as selectors: from models and texts, in one command",
        settings=ReproduceSettings,
        shows_stages=True,
        example="reproduce selectors --scale smoke --pairs en-ca en-de --out runs/selectors",
        notes=(
            "Each stage is made once, and kept in the store; each finished cell of a table is also one small file, if there is "
            "a folder for them. The same command resumes."
        ),
        resumes=True,
    ),
    "store": Command(
        task="recipes",
        summary="the stages that recipes made: list, explain, verify, prune",
        settings=StoreSettings,
        opens_models=False,
        example="store prune --older-than 60",
        notes="Without --yes, prune removes nothing and lists what it would remove.",
    ),
    "translate": Command(
        task="ship",
        summary="translate with a run, a patch, an adapter or a model",
        settings=TranslateSettings,
        example='translate runs/demo "Your session has expired." --compare',
        notes=(
            "A folder that run, tune or export wrote is translated with its base and the prompt of its training. Another model "
            "needs --source-language and --target-language."
        ),
    ),
    "export": Command(
        task="ship",
        summary="write a patch or an adapter for PEFT, transformers, vLLM or llama.cpp",
        settings=ExportSettings,
        example="export runs/demo/partial --to peft --out adapter",
        renamed={"argument": "--out"},
    ),
    "push": Command(
        task="ship",
        summary="upload an export to the Hugging Face hub",
        settings=PushSettings,
        opens_models=False,
        example="push adapter OWNER/NAME --dry-run",
        notes=(
            "Nothing is uploaded but the files that export wrote. The token is that of the hub's own login (hf auth login). "
            "The hub's own variables, such as HF_ENDPOINT, are obeyed."
        ),
    ),
    "doctor": Command(
        task="help",
        summary="what is installed, what this machine can do, and what is missing for which feature",
        settings=DoctorSettings,
        opens_models=False,
        example="doctor --json",
        notes=(
            "No network is used. Exit code 1 where a package that is required is missing or has a version out of its range, or "
            "torch cannot be imported."
        ),
    ),
    "completion": Command(
        task="help",
        summary="the script by which a shell completes commands, flags, choices and paths",
        settings=CompletionSettings,
        opens_models=False,
        example="completion bash",
        notes=(
            'bash: add eval "$(ks-lottery completion bash)" to ~/.bashrc. zsh: the same in ~/.zshrc, after compinit. fish: '
            "ks-lottery completion fish > ~/.config/fish/completions/ks-lottery.fish."
        ),
    ),
}
"""Command to what it is, in the order of the help."""
