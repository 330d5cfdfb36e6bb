"""The transformers Trainer with checkpoints without the frozen body, an order that can be resumed, and an exact loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback, Trainer, TrainerState
from transformers.trainer_pt_utils import get_length_grouped_indices

from ks_lottery.corpus.batches import NO_LABEL, batches_by_length
from ks_lottery.store.files import write_json, writing
from ks_lottery.store.run_folder import WHOLE_FILE
from ks_lottery.tuning.recorder import AttributionRecorder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ks_lottery.tuning.saving import StopRequest

TRAINED_FILE = "trained.safetensors"


def step_order(lengths: Sequence[int], size: int, *, seed: int, epoch: int) -> list[int]:
    """Return the order of the examples in an epoch: like lengths together, a function of seed and epoch alone.

    It is the order that the Trainer itself draws in an unbroken run of a model without dropout: before each epoch's
    permutation its data loader draws one number.

    Parameters
    ----------
    size
        Examples in a step, over all processes and accumulated batches.
    """
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(epoch + 1):
        torch.empty((), dtype=torch.int64).random_(generator=generator)
        order = get_length_grouped_indices(lengths, size, generator=generator)
    return order


class _Order(Sampler[int]):
    """Yields an epoch's order, filled up with blank examples so that each process has as many batches."""

    def __init__(self, trainer: TuneTrainer, lengths: Sequence[int]) -> None:
        arguments = trainer.args
        self.trainer = trainer
        self.lengths = lengths
        processes = arguments.world_size
        self.step = arguments.train_batch_size * arguments.gradient_accumulation_steps * processes
        round_size = arguments.train_batch_size * processes
        self.blanks = -len(lengths) % round_size if processes > 1 else 0

    def __len__(self) -> int:
        return len(self.lengths) + self.blanks

    def __iter__(self) -> Iterator[int]:
        steps_an_epoch = math.ceil(len(self.lengths) / self.step)
        epoch = self.trainer.state.global_step // steps_an_epoch
        yield from step_order(self.lengths, self.step, seed=self.trainer.args.seed, epoch=epoch)
        yield from [len(self.lengths)] * self.blanks


def with_blank(features: list[dict[str, list[int]]]) -> list[dict[str, list[int]]]:
    """Add an example without labels at the end: it weighs nothing in the loss."""
    first = features[0]
    return [*features, {"input_ids": first["input_ids"], "labels": [NO_LABEL] * len(first["labels"])}]


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """Return a parameter's value on the CPU, gathered where it is sharded (every process must then call this)."""
    value = parameter.detach()
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()  # type: ignore[operator]
    return value.cpu().clone().contiguous()


def _like(parameter: torch.nn.Parameter, value: torch.Tensor) -> torch.Tensor:
    """Return a whole value sharded as a parameter is (every process must then call this)."""
    sharded: Any = parameter
    if not hasattr(sharded, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, sharded.device_mesh, sharded.placements)


def gather(model: torch.nn.Module) -> None:
    """Gather the parameters of a sharded model that are outside its layers (every process must then call this)."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.unshard()


def _reshard(model: torch.nn.Module) -> None:
    """Drop the gathered parameters that a forward without a backward leaves in a sharded model."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def trained_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters that are trained, by name, on the CPU."""
    return {name: whole(p) for name, p in model.named_parameters() if p.requires_grad}


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Return the latest checkpoint that was written to its end, if there is one."""
    checkpoints = [path for path in folder.glob("checkpoint-*") if (path / WHOLE_FILE).is_file()]
    return max(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


class Patience(EarlyStoppingCallback):
    """Early stopping whose count resumes from a checkpoint; transformers would make every callback anew for that."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Load the count of the checkpoint that the training resumes from."""
        super().on_train_begin(args, state, control, **kwargs)
        saved = (state.stateful_callbacks or {}).get(type(self).__name__)
        if state.global_step and saved:
            self.early_stopping_patience_counter = int(saved["attributes"]["early_stopping_patience_counter"])


class TuneTrainer(Trainer):
    """A Trainer for a `LabelledLanguageModel` of which few parameters are trained."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        features: Any = train_dataset if train_dataset is not None else self.train_dataset
        return _Order(self, [len(feature["input_ids"]) for feature in features[:-1]])

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        state = trained_state(self.accelerator.unwrap_model(self.model))
        if self.args.should_save:
            folder = Path(str(output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            save_file(state, folder / TRAINED_FILE)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        with writing(folder):
            super()._save_checkpoint(model, trial)
            for recorder in self._recorders:
                recorder.save(folder, writes=self.args.should_save)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            write_json(folder / WHOLE_FILE, {"step": self.state.global_step})

    @property
    def _recorders(self) -> list[AttributionRecorder]:
        return [each for each in self.callback_handler.callbacks if isinstance(each, AttributionRecorder)]

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: Any = None,
        stop: StopRequest | None = None,
    ) -> Any:
        """Train as the Trainer does; what each row contributed resumes with it, and is finished after the last step.

        Parameters
        ----------
        stop
            The wish to stop: what was trained until then is not finished.
        """
        if isinstance(resume_from_checkpoint, str):
            for recorder in self._recorders:
                recorder.load(Path(resume_from_checkpoint))
        output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        if stop is None or not stop.wanted:
            self._finish_records()
        return output

    def _finish_records(self) -> None:
        for recorder in self._recorders:
            recorder.finish(self.next_gradient)

    def next_gradient(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """Return the gradient of the loss of the step that would come next, at the values now, averaged over processes.

        Every process calls it. The examples are those that the order has next, after the last one those that the next epoch
        would begin with; each process computes its share, as in a step.
        """
        model: Any = self.accelerator.unwrap_model(self.model)
        features: Any = self.train_dataset
        processes, size = self.args.world_size, self.args.train_batch_size
        step = size * self.args.gradient_accumulation_steps * processes
        lengths = [len(feature["input_ids"]) for feature in features[:-1]]
        epoch, place = divmod(self.state.global_step, math.ceil(len(lengths) / step))
        indices = step_order(lengths, step, seed=self.args.seed, epoch=epoch)[place * step : (place + 1) * step]
        labels = sum(label != NO_LABEL for i in indices for label in features[i]["labels"])
        batches = [indices[start : start + size] for start in range(0, len(indices), size)]
        was_training = model.training
        model.train()
        model.zero_grad()
        # Every process runs as many batches, since sharded parameters are gathered by all at once.
        for number in range(self.args.process_index, math.ceil(len(batches) / processes) * processes, processes):
            batch = batches[number] if number < len(batches) else [len(lengths)]
            inputs = self._prepare_inputs(self.data_collator([features[i] for i in batch]))
            (model(**inputs, num_items_in_batch=1)["loss"] * (processes / max(labels, 1))).backward()
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()
        model.zero_grad()
        model.train(was_training)
        if processes > 1 and not hasattr(gradient, "device_mesh"):  # of sharded rows the mean is taken on the way back
            gradient = self.accelerator.reduce(gradient, "mean")
        return gradient  # pyright: ignore[reportReturnType]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        state = load_file(Path(resume_from_checkpoint) / TRAINED_FILE)
        parameters = dict(self.accelerator.unwrap_model(self.model if model is None else model).named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                parameters[name].copy_(_like(parameters[name], value))

    def restored_end(self, checkpoint: Path, patience: int) -> bool:
        """Load a checkpoint of a training that had ended, and say whether it is one; the Trainer would do one more step."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        callbacks: Any = state.stateful_callbacks or {}
        saved = callbacks.get(Patience.__name__, {}) if patience else {}
        waited = int(saved.get("attributes", {}).get("early_stopping_patience_counter", 0))
        if state.global_step < state.max_steps and not (patience and waited >= patience):
            return False
        self.state = state
        self._load_from_checkpoint(str(checkpoint))
        for recorder in self._recorders:
            recorder.load(checkpoint)
        self._finish_records()
        best = state.best_model_checkpoint if patience else None
        if best:
            self._load_from_checkpoint(best)
        return True

    def _load_best_model(self) -> None:
        self._finish_records()  # at the rows that the last step led to
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # type: ignore[override]
        """Return the mean loss over all labels of the validation text, the same however it is batched or shared out."""
        features: Any = self.eval_dataset
        metrics = {"eval_loss": self.mean_loss(features) or 0.0}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def mean_loss(self, features: Sequence[dict[str, list[int]]]) -> float | None:
        """Return the mean loss over all labels of examples, in evaluation mode; None without an example.

        Every process calls it, and gets the same. No random number is drawn. The precision is that of the training, also before
        the first step and where nothing is left to train, when the model does not have it by itself.
        """
        if not features:
            return None
        lengths = [len(feature["input_ids"]) for feature in features]
        model: Any = self.accelerator.unwrap_model(self.model)
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        batches = batches_by_length(lengths, self.args.per_device_eval_batch_size)
        processes = self.args.world_size
        was_training = model.training
        model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            # Every process runs as many batches, since sharded parameters are gathered by all at once.
            for number in range(self.args.process_index, math.ceil(len(batches) / processes) * processes, processes):
                batch = batches[number] if number < len(batches) else batches[0]
                inputs = self._prepare_inputs(self.data_collator([features[i] for i in batch]))
                loss = model(**inputs, num_items_in_batch=1)["loss"]
                count = (inputs["labels"] != NO_LABEL).sum()
                total += torch.stack([loss.double(), count.double()]) * (number < len(batches))
        model.train(was_training)
        if processes > 1:
            _reshard(model)
            total = self.accelerator.reduce(total, "sum")
        return float(total[0] / total[1])

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums of numbers over all processes, each of which calls it."""
        if self.args.world_size == 1:
            return list(numbers)
        own = torch.tensor(numbers, dtype=torch.float32, device=self.args.device)
        return self.accelerator.reduce(own, "sum").tolist()  # pyright: ignore[reportAttributeAccessIssue]
