"""A tuning made ready: model, examples, rows and settings, checked against each other before anything is trained."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_lottery.config.presets import process_count
from ks_lottery.config.values import values_of
from ks_lottery.corpus.batches import span_occurrences
from ks_lottery.corpus.mixed_templates import mixed_texts
from ks_lottery.corpus.plain_text import PLAIN
from ks_lottery.corpus.prompts import usual_order
from ks_lottery.models.load import choose_dtype
from ks_lottery.report.section import Section
from ks_lottery.store.manifest import digest_json, manifest
from ks_lottery.tickets.span_counts import SpanCounts
from ks_lottery.tuning.adapters import adapter_trainable
from ks_lottery.tuning.fitting import fit
from ks_lottery.tuning.full import full_trainable
from ks_lottery.tuning.one_pass import choose_rows
from ks_lottery.tuning.row_training import row_trainable
from ks_lottery.tuning.scale import scale_of
from ks_lottery.tuning.trainable import TuneResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from transformers import TrainerCallback

    from ks_lottery.config.settings import TrainConfig
    from ks_lottery.corpus.batches import Example
    from ks_lottery.corpus.corpus import Corpus
    from ks_lottery.models.load import LoadedModel
    from ks_lottery.tickets.tickets import Tickets
    from ks_lottery.tuning.plan import Plan
    from ks_lottery.tuning.token_prompt import TokenPrompt
    from ks_lottery.tuning.token_rows import TokenRows
    from ks_lottery.tuning.trainable import Progress, Trainable
    from ks_lottery.tuning.tune_spec import TuneSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """A tuning made ready; `ks_lottery.tuning.tune.prepare` makes one.

    Parameters
    ----------
    loaded
        The model that is trained.
    config
        Settings as the training runs (`TuneSpec.train_config`).
    examples, validation
        Examples to train on, and those that the loss is measured on.
    rows
        Rows that are trained, for methods that train rows; None also where a pass over the text has to choose them (`chosen`).
    fitted
        Why the learning rate is not the paper's, where one that fits the model takes its place; else None.
    prompt
        The prompt that token-prompt tuning made; None for other methods.
    new_tokens
        Tokens that the vocabulary of the base does not have; None where there are none.
    corpus, validation_corpus
        The texts that the examples came from; None where there is no text, or examples were given.
    """

    spec: TuneSpec
    loaded: LoadedModel
    config: TrainConfig
    examples: Sequence[Example]
    validation: Sequence[Example] = ()
    rows: Tickets | None = None
    fitted: str | None = None
    prompt: TokenPrompt | None = None
    new_tokens: TokenRows | None = None
    corpus: Corpus | None = None
    validation_corpus: Corpus | None = None

    @property
    def described(self) -> dict[str, Any]:
        """What manifests say of the settings."""
        spec = self.spec
        rates = {key: value for key, value in values_of(self.config).items() if not key.startswith("embed_")}
        return {
            "method": spec.method,
            **({} if spec.by is None else {"by": spec.by, "size": spec.size}),
            **({} if self.rows is None else {"rows": len(self.rows), "rule": dict(self.rows.rule)}),
            "seed": spec.seed,
            "dtype": str(self.loaded.lm.dtype),
            **rates,
            **({} if self.prompt is None else {"prompt": self.prompt.template}),
            **({} if self.new_tokens is None else self.new_tokens.described),
            **({"tokens": int(spec.tokens)} if spec.kind == "adapter" and spec.tokens != "auto" else {}),
            **({} if spec.side == "input" else {"side": spec.side}),
            **({} if spec.layers is None else {"layers": spec.layers}),
            **({} if spec.quantization is None else {"quantize": spec.quantization}),
            **self._prompt,
        }

    @property
    def _prompt(self) -> dict[str, Any]:
        """How sentences are shown to the model, which whoever uses the result must know."""
        template = {"template": self.spec.template, **mixed_texts(self.spec.template)}
        if self.corpus is None:
            return template
        names = ("source_language", "target_language")
        return {
            **template,
            **({"text_format": PLAIN} if self.corpus.monolingual else {}),
            "instruction": usual_order(self.corpus),
            **{name: getattr(self.corpus, name) for name in names},
        }

    @property
    def manifest(self) -> dict[str, Any]:
        """Everything that the result depends on."""
        spec = self.spec
        # Rows that a pass chooses follow from the rest; the manifest is the same before it and after it.
        known = None if spec.measures else self.rows
        rows = {} if known is None else {"rows": digest_json(known.ids.tolist())}
        validated = {} if self.validation_corpus is None else {
            "validation": self.validation_corpus.fingerprint, "patience": spec.patience,
            "evaluate_every": spec.evaluate_every,
        }  # fmt: skip
        text = (
            digest_json([{"prompt": e.prompt, "response": e.response} for e in self.examples])
            if self.corpus is None
            else self.corpus.fingerprint
        )
        return manifest(
            "tuning",
            made_from={"base": self.loaded.checkpoint.describe(), "text": text, **rows},
            settings={
                **replace(self, rows=known).described, "max_tokens": spec.max_tokens,
                "processes": process_count(), "fsdp": spec.fsdp, **validated,
            },
        )  # fmt: skip

    @contextmanager
    def trainable(self) -> Generator[Trainable[Any]]:
        """Make the model trainable inside a block, as the method says."""
        spec, loaded, described = self.spec, self.loaded, self.described
        share = self.config.share_prefix
        if spec.measures and self.rows is None:
            raise RuntimeError("the rows are not chosen yet: call `chosen`")
        if self.rows is not None:
            record = spec.method == "embed"
            building: Any = row_trainable(
                loaded, self.rows.ids, side=spec.side, share_prefix=share, described=described, record=record
            )
        elif spec.kind == "full":
            # The body is float32 here; what the user's choice of type decides is what it is computed in.
            device = "cuda" if spec.fsdp else next(loaded.lm.parameters()).device.type
            half = str(choose_dtype(spec.dtype, device)) == "torch.bfloat16"
            building = full_trainable(loaded, spec.layers, share_prefix=share, autocast=half, described=described)
        else:
            building = adapter_trainable(
                loaded, spec.method, share_prefix=share, described=described, seed=spec.seed,
                **({} if spec.tokens == "auto" else {"virtual_tokens": int(spec.tokens)}),
            )  # fmt: skip
        with building as trainable:
            yield trainable

    def run(
        self,
        *,
        watch: Callable[[Progress], None] | None = None,
        tick: Callable[[int, int], None] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> TuneResult[Any]:
        """Train, and return the product with its losses; the model is then as it was (`full` has its own copy).

        Parameters
        ----------
        watch, tick
            Called after each step: with `Progress`, or with steps done and steps in all.
        callbacks
            The transformers Trainer's own kind, called beside ours; a `KSCallback` is attached.

        Raises
        ------
        UserError
            When the training diverges.
        """
        rows = (tuning := self.chosen()).rows
        counts = tuning.span_counts
        with tuning.trainable() as trainable:
            if rows is not None and len(rows) == 0:
                return TuneResult(product=trainable.collect(), rows=rows, span_counts=counts)
            result = fit(
                trainable,
                self.examples,
                spec=self.spec,
                config=self.config,
                rows=rows,
                validation=self.validation,
                watch=watch,
                tick=tick,
                callbacks=callbacks,
            )
        return replace(result, span_counts=counts, tokenizer=None if self.new_tokens is None else self.loaded.tokenizer)

    @property
    def span_counts(self) -> SpanCounts | None:
        """Where each token occurs in the training text, for methods that train rows; None where that is not known."""
        counted = None if self.rows is None else span_occurrences(self.examples)
        if counted is None:
            return None
        text = None if self.corpus is None else self.corpus.fingerprint
        return SpanCounts.of_occurrences(counted, {"base": self.loaded.checkpoint.describe(), "text": text})

    def chosen(self, tick: Callable[[int, int], None] | None = None) -> Tuning:
        """Return the tuning with its rows: as it is, or after the pass over the text that chooses them (`choose_rows`).

        Parameters
        ----------
        tick
            Called with examples done and examples in all.
        """
        if not self.spec.measures or self.rows is not None:
            return self
        return replace(self, rows=choose_rows(self.spec, self.loaded, self.examples, self.config, tick=tick))

    def plan(self) -> Plan:
        """Measure what the training would cost, on two steps; nothing is trained."""
        from ks_lottery.tuning.plan import make_plan

        return make_plan(self, processes=process_count())

    def sections(self) -> list[Section]:
        """Return what is trained on, what was left out, and settings that the user may not expect."""
        from ks_lottery.corpus.source import reasons

        config, spec, sentences = self.config, self.spec, list[str]()
        if self.corpus is not None and (left_out := reasons(self.corpus.left_out)):
            sentences.append(f"{self.corpus.origin}: {len(self.corpus):,} {self.corpus.unit}; left out: {left_out}")
        overlong = 0 if self.corpus is None else len(self.corpus) - len(self.examples)
        too_long = f"left out as too long: train {overlong:,}"
        if self.validation_corpus is not None:
            too_long += f", validation {len(self.validation_corpus) - len(self.validation):,}"
        sentences += [
            f"{len(self.examples):,} examples to train on, {len(self.validation):,} to validate on; {too_long}",
            f"learning rate {config.learning_rate:g}, {config.epochs:g} {'epoch' if config.epochs == 1 else 'epochs'}, "
            f"batches of {config.batch_size}, {config.gradient_accumulation} per step, seed {spec.seed}, warm-up "
            f"{config.warmup_ratio:g}, clipping {config.max_grad_norm:g}, weight decay {config.weight_decay:g}, at most "
            f"{spec.max_tokens:,} tokens",
            *([] if self.fitted is None else [self.fitted]),
        ]
        shares = spec.settings.get("share_prefix") is not False and spec.method not in {"prefix", "prompt"}
        if shares and (config.gradient_checkpointing or spec.fsdp):
            why = (
                "since its keys and values must be kept"
                if config.gradient_checkpointing
                else "since layers are sharded"
            )
            what = "gradient checkpointing" if config.gradient_checkpointing else "sharding"
            sentences.append(f"{what}: the shared prefix is switched off, {why}")
        sentences += [] if self.prompt is None else self.prompt.sentences()
        if self.new_tokens is not None:
            sentences += self.new_tokens.sentences(self.examples, spec.side)
        if spec.by is not None and self.rows is not None and len(self.rows) < (spec.size or 0):
            sentences.append(f"{spec.by} has {len(self.rows):,} rows, fewer than the {spec.size:,} that were asked for")
        if "random" in {spec.method, spec.by} and self.rows is not None:
            occurring = {token for example in self.examples for token in example.sequence}
            count = sum(int(row) in occurring for row in self.rows.rows)
            sentences.append(
                f"{count:,} of the {len(self.rows):,} random rows occur in the text; the others cannot move"
            )
        scale = scale_of(self)
        if scale is not None and not scale.is_measurable:
            sentences.append(scale.sentence())
        return [Section(sentences=sentences)]
