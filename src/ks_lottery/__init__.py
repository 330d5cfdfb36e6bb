"""KS-Lottery: find, train, ship and certify the few embedding rows that fine-tuning really moves.

The public API. Everything is imported when it is first used, so that ``import ks_lottery`` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ks_lottery.certification.agree import agree
    from ks_lottery.certification.agreed import Agreed
    from ks_lottery.certification.certificate import Certificate
    from ks_lottery.certification.certify import certify
    from ks_lottery.checkpoint.attribution import Attribution
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.settings import RunConfig, TextSource
    from ks_lottery.corpus.corpus import Corpus, Pair
    from ks_lottery.corpus.prepared import keep_useful, split
    from ks_lottery.corpus.readers import read_corpus
    from ks_lottery.errors import LearningRateWarning, UserError
    from ks_lottery.evaluation.evaluate import evaluate
    from ks_lottery.evaluation.evaluation import Evaluation
    from ks_lottery.evaluation.inspect import inspect
    from ks_lottery.evaluation.located import where
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.evaluation.where import Where
    from ks_lottery.models.applied import applied
    from ks_lottery.models.export import to_merged, to_peft
    from ks_lottery.models.export_gguf import to_gguf, to_gguf_lora
    from ks_lottery.models.export_lora import to_lora
    from ks_lottery.models.formats import Export, export
    from ks_lottery.models.gradients import row_gradients
    from ks_lottery.models.hub_upload import push
    from ks_lottery.models.load import LoadedModel, from_memory, load_model, open_checkpoint
    from ks_lottery.recipes.reproduce import reproduce
    from ks_lottery.stats.two_sample import ks_test
    from ks_lottery.tickets.agreement import compare_tunings
    from ks_lottery.tickets.compare import scan
    from ks_lottery.tickets.explain import explain
    from ks_lottery.tickets.scan import Scan
    from ks_lottery.tickets.select import select, select_by_attribution
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.callback import KSCallback
    from ks_lottery.tuning.tune import tune

    __version__: str

_HOME = {
    "Agreed": "certification.agreed",
    "Attribution": "checkpoint.attribution",
    "Certificate": "certification.certificate",
    "Checkpoint": "checkpoint.reader",
    "Corpus": "corpus.corpus",
    "Evaluation": "evaluation.evaluation",
    "Export": "models.formats",
    "KSCallback": "tuning.callback",
    "LearningRateWarning": "errors",
    "LoadedModel": "models.load",
    "Pair": "corpus.corpus",
    "Predictions": "evaluation.predictions",
    "RowPatch": "checkpoint.patch",
    "RunConfig": "config.settings",
    "Scan": "tickets.scan",
    "TextSource": "config.settings",
    "Tickets": "tickets.tickets",
    "UserError": "errors",
    "Where": "evaluation.where",
    "agree": "certification.agree",
    "applied": "models.applied",
    "certify": "certification.certify",
    "compare_tunings": "tickets.agreement",
    "evaluate": "evaluation.evaluate",
    "explain": "tickets.explain",
    "export": "models.formats",
    "from_memory": "models.load",
    "inspect": "evaluation.inspect",
    "keep_useful": "corpus.prepared",
    "ks_test": "stats.two_sample",
    "load_model": "models.load",
    "open_checkpoint": "models.load",
    "push": "models.hub_upload",
    "read_corpus": "corpus.readers",
    "reproduce": "recipes.reproduce",
    "row_gradients": "models.gradients",
    "scan": "tickets.compare",
    "select": "tickets.select",
    "select_by_attribution": "tickets.select",
    "split": "corpus.prepared",
    "to_gguf": "models.export_gguf",
    "to_gguf_lora": "models.export_gguf",
    "to_lora": "models.export_lora",
    "to_merged": "models.export",
    "to_peft": "models.export",
    "tune": "tuning.tune",
    "where": "evaluation.located",
}

__all__ = [
    "Agreed",
    "Attribution",
    "Certificate",
    "Checkpoint",
    "Corpus",
    "Evaluation",
    "Export",
    "KSCallback",
    "LearningRateWarning",
    "LoadedModel",
    "Pair",
    "Predictions",
    "RowPatch",
    "RunConfig",
    "Scan",
    "TextSource",
    "Tickets",
    "UserError",
    "Where",
    "__version__",
    "agree",
    "applied",
    "certify",
    "compare_tunings",
    "evaluate",
    "explain",
    "export",
    "from_memory",
    "inspect",
    "keep_useful",
    "ks_test",
    "load_model",
    "open_checkpoint",
    "push",
    "read_corpus",
    "reproduce",
    "row_gradients",
    "scan",
    "select",
    "select_by_attribution",
    "split",
    "to_gguf",
    "to_gguf_lora",
    "to_lora",
    "to_merged",
    "to_peft",
    "tune",
    "where",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, and keep it."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("ks-lottery")
    elif name in _HOME:
        value = getattr(import_module(f"ks_lottery.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'ks_lottery' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, for tab completion."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
