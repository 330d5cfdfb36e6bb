"""How far models answer like a reference, guaranteed: any models that share a tokenizer, by the procedure of `certify`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ks_lottery.certification.agree_spec import AgreeSpec
from ks_lottery.certification.agree_text import (
    is_plain_text,
    new_tokens,
    open_agree_text,
    prepare_agreement,
    prompts_of,
    spec_for,
)
from ks_lottery.certification.agreed import Agreed
from ks_lottery.certification.calibration import Calibration
from ks_lottery.certification.candidates import TUNED
from ks_lottery.certification.model_choice import choose_model
from ks_lottery.certification.units import Wording
from ks_lottery.config.groups import ModelOptions
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError
from ks_lottery.evaluation.next_token import predict
from ks_lottery.evaluation.translate import translate
from ks_lottery.models.opened_model import loaded_models, open_models
from ks_lottery.report.screen import Screen
from ks_lottery.store.manifest import manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ks_lottery.certification.calibration import Texts
    from ks_lottery.checkpoint.patch import RowPatch
    from ks_lottery.checkpoint.reader import Checkpoint
    from ks_lottery.config.groups import TextSource
    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.corpus.prompt_form import PromptForm
    from ks_lottery.evaluation.outputs import Output
    from ks_lottery.evaluation.predictions import Predictions
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.models.opened_model import Loader, OpenedModel

    Tick = Callable[[int, int], None]
    Stage = Callable[[str], AbstractContextManager[Tick | None]]
    Model = str | Path | Checkpoint | LoadedModel | RowPatch

RESERVED = (TUNED,)
"""Names that no model gets: the answers of the reference are saved by it."""

MEANING = "It needs only the random draw, and makes no assumption about the models."


def agreement_manifest(
    spec: AgreeSpec, models: Sequence[OpenedModel], corpus: Corpus, how: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a comparison depends on, by content, before anything is computed.

    Parameters
    ----------
    how
        How models are loaded: ``dtype`` and ``device``.
    """
    described = [model.describe() for model in models]
    made_from = {"reference": described[0], "candidates": described[1:], "text": corpus.fingerprint}
    settings = {**asdict(spec), **how}
    return json.loads(json.dumps(manifest("agreement", made_from=made_from, settings=settings)))


def agree_with(
    spec: AgreeSpec,
    models: Sequence[OpenedModel],
    corpus: Corpus,
    *,
    texts: Texts | None = None,
    how: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    stage: Stage | None = None,
) -> Agreed:
    """Compare candidates with a reference, one model in memory at a time: the one path of library and command.

    Parameters
    ----------
    spec
        As `spec_for` returns it.
    models
        The reference, and one or more candidates; with ``epsilon`` from the largest to the smallest.
    corpus
        What `open_agree_text` returned.
    texts
        What `prepare_agreement` returned for the same things, where the caller has checked them before.
    how, trust_remote_code
        ``dtype`` and ``device``; whether code that comes with a checkpoint runs.
    stage
        Called with the title of a stage, for a context that gives its tick, which takes sentences done and sentences in all.

    Raises
    ------
    UserError
        When models, text or settings do not belong together, or a model cannot be loaded.
    """
    texts = texts or prepare_agreement(spec, models, corpus)
    text, pool, how = texts.calibration, texts.pool, dict(how or {})
    about = agreement_manifest(spec, models, corpus, how)
    if text is None or pool is None:
        raise ValueError("no part of the text was drawn")
    first = spec.first_positions
    examples = [example if first is None else example.cut(first) for example in text.examples]
    prompts: list[tuple[int, ...]] = []
    if spec.generate:
        _, prompts = prompts_of(models[0], text, spec)
        spec = replace(spec, max_new_tokens=new_tokens(models, prompts, spec.max_new_tokens))
    answers: dict[str, Predictions] = {}
    outputs: dict[str, list[Output]] = {}
    with loaded_models(trust_remote_code=trust_remote_code, **how) as loader:
        for number, model in enumerate(models):
            form = prompts_of(model, text, spec)[0] if spec.generate else None
            asked = _asked(loader, model, examples, form, prompts, spec, stage)
            answers[model.name if number else TUNED] = asked[0]
            if form is not None:
                outputs[model.name] = asked[1]
    calibration = Calibration(
        answers=answers, pool=pool, order=texts.order, positions=first, delta=spec.delta, epsilon=None, loss="share",
        documents=[pair.document for pair in text.corpus] if pool.unit == "document" else [],
        bounding=spec.bound, seed=spec.split_seed, text=text.corpus.fingerprint,
    )  # fmt: skip
    reference, *names = (model.name for model in models)
    same = {name: [a == b for a, b in zip(outputs[name], outputs[reference], strict=True)] for name in names if outputs}
    chosen = (
        None if spec.epsilon is None else choose_model(calibration, reference, names, spec.loss, spec.epsilon, same)
    )
    output = "continuation" if is_plain_text(corpus) else "translation"
    guarantees: list[dict[str, Any]] = []
    for name in names if chosen is None else []:
        words = Wording(
            small=name, tuned=reference, reference="the text", meaning=MEANING,
            generates=f"gives the same greedy {output}, of at most {spec.max_new_tokens:,} tokens, as",
        )  # fmt: skip
        bounds = calibration.guarantees_of(name, paired=True, generated=same.get(name), words=words)
        guarantees += [{"model": name, **bound.as_dict()} for bound in bounds]
    return Agreed(
        reference=reference,
        candidates=names,
        text=corpus.origin,
        plain=is_plain_text(corpus),
        sentences=len(text.corpus),
        overlong=texts.overlong,
        loss=spec.loss,
        guarantees=guarantees,
        choice=chosen,
        fail_below=spec.fail_below,
        manifest=about,
        calibration=calibration,
        outputs=outputs,
    )


def _asked(
    loader: Loader,
    model: OpenedModel,
    examples: Sequence[Example],
    form: PromptForm | None,
    prompts: Sequence[Sequence[int]],
    spec: AgreeSpec,
    stage: Stage | None,
) -> tuple[Predictions, list[Output]]:
    """Return the answers of one model, and with a form its outputs; nothing of the model stays in memory."""
    outputs: list[Output] = []
    with loader.equipped(model, share_prefix=spec.share_prefix) as (loaded, ready):
        about = {"base": loaded.checkpoint.fingerprint, "patch": ready.content}
        with _stage(stage, f"answers of {model.name}") as tick:
            answers = predict(ready.labelled, examples, batch_size=spec.batch_size, made_from=about, tick=tick)
        if form is not None:
            with _stage(stage, f"outputs of {model.name}") as tick:
                outputs = translate(
                    ready.generator, form, prompts, num_beams=1, max_new_tokens=spec.max_new_tokens,
                    batch_size=spec.batch_size, share_prefix=spec.share_prefix, tick=tick,
                )  # fmt: skip
    return answers, outputs


def _named(candidates: Any) -> tuple[list[Any], list[str | None]]:
    """Return candidates and their names, None where they have none."""
    if isinstance(candidates, dict):
        return list(candidates.values()), [str(name) for name in candidates]
    listed = list(candidates) if isinstance(candidates, list | tuple) else [candidates]
    if not listed:
        raise UserError("no candidate was given: give one or more models to compare with the reference")
    return listed, [None] * len(listed)


def _stage(stage: Stage | None, title: str) -> AbstractContextManager[Tick | None]:
    return nullcontext(None) if stage is None else stage(title)


@checks_names
def agree(
    reference: Model,
    candidates: Model | Sequence[Model] | Mapping[str, Model],
    corpus: Corpus | TextSource | str | Path | Sequence[str],
    *,
    calibration: float,
    base: str | Path | Checkpoint | LoadedModel | None = None,
    positions: int | str = AgreeSpec.positions,
    generate: bool = AgreeSpec.generate,
    max_new_tokens: int = AgreeSpec.max_new_tokens,
    delta: float = AgreeSpec.delta,
    bound: Literal["finite", "independent"] = AgreeSpec.bound,
    epsilon: float | None = None,
    loss: str = AgreeSpec.loss,
    fail_below: float | None = None,
    template: str | None = None,
    max_tokens: int | None = None,
    batch_size: int = AgreeSpec.batch_size,
    share_prefix: bool = AgreeSpec.share_prefix,
    split_seed: int = AgreeSpec.split_seed,
    dtype: Literal["auto", "float32", "bfloat16"] = ModelOptions.dtype,
    device: Literal["auto", "cpu", "cuda", "mps"] = ModelOptions.device,
    trust_remote_code: bool = ModelOptions.trust_remote_code,
    progress: bool = False,
) -> Agreed:
    """Guarantee how often candidates answer like a reference on a text: the guarantee of `certify`, for any models.

    Each bound fails with probability at most `delta` over the random draw of the sentences, whatever the models are.

    Parameters
    ----------
    reference
        Folder, GGUF file, hub id or asset; the folder of a row patch or of a PEFT adapter; a patch, an opened checkpoint, or a
        loaded model, which is used as it is.
    candidates
        One model of the same kinds, several, or several by the name that results call them.
    corpus
        Parallel text, or plain text, whose tokens are all positions: a corpus; a file or a dataset, which is plain text unless
        its ending or a `TextSource` says that it is parallel; or sentences.
    calibration
        Share below 1, or number, of sentences that are drawn at random. Only these are computed.
    base
        Base of the patches and adapters; None (the default) for the one that each names.
    positions
        ``all`` (the default), or how many first positions of a sentence count.
    generate, max_new_tokens
        Generate greedily too (off), at most so many tokens (64): the translation of a sentence, or what follows a line.
    delta, bound
        Probability that a bound fails, in (0, 1) (0.05), and how it is computed: ``finite`` (the default) or ``independent``.
    epsilon, loss
        Choose the last of the candidates, given from the largest to the smallest, whose loss is at most `epsilon` with
        probability 1 - `delta`. The loss is the ``share`` of positions answered differently (the default), whether ``any`` is,
        the loss of ``accuracy``, or whether the ``generated`` output differs.
    fail_below
        ``passed`` is False unless 1 - `loss` is guaranteed to be at least this for each candidate; None (the default) asks for
        nothing.
    template, max_tokens
        Prompt of parallel text: a name of `ks_lottery.config.choices.TEMPLATES`, a text of your own, or None (the default) for
        the reference's own, else ``alpaca``; and the longest example: None (the default) refuses a text beyond a model's
        context, else longer ones are left out.
    batch_size, share_prefix
        Sentences at a time (16); compute what all prompts begin with once (on).
    split_seed
        Seed of the draw (0).
    dtype, device, trust_remote_code
        How models are loaded, as for `load_model`.
    progress
        Show a bar for each model on standard output; off by default.

    Returns
    -------
    Agreed
        ``guarantees`` of each candidate (``all_agree``, ``agreement``, ``accuracy``, ``accuracy_change`` and ``generated``), or
        the ``choice``; ``passed``; ``notes``, a sentence for a release note.

    Raises
    ------
    UserError
        When tokenizers differ, a model, text or setting cannot be used, or the text is too small for what is asked.
    """
    spec = AgreeSpec(
        calibration=calibration, positions=str(positions), generate=generate, max_new_tokens=max_new_tokens, delta=delta,
        bound=bound, epsilon=epsilon, loss=loss, fail_below=fail_below, template=template, max_tokens=max_tokens,
        batch_size=batch_size, share_prefix=share_prefix, split_seed=split_seed,
    )  # fmt: skip
    given, names = _named(candidates)
    text = open_agree_text(corpus)
    models = open_models(
        [reference, *given], base=base, names=[None, *names], reserved=RESERVED, trust_remote_code=trust_remote_code
    )
    spec = spec_for(spec, models)
    texts = prepare_agreement(spec, models, text)
    stage = partial(Screen(total=len(models) * (1 + generate)).stage, unit="sentences") if progress else None
    how = {"dtype": dtype, "device": device}
    return agree_with(spec, models, text, texts=texts, how=how, trust_remote_code=trust_remote_code, stage=stage)
