"""Training sharded by FSDP2, as the Trainer does it on GPUs, here over two CPU processes: against one process.

accelerate shards on GPUs alone, so each process tells it that these are some; gloo carries what NCCL would.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ks_lottery.models.load import load_model

TRAIN = """
import json, os, sys
from pathlib import Path
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from ks_lottery import open_checkpoint, read_corpus
from ks_lottery.models import language_model
from ks_lottery.tuning import tune
from ks_lottery.tuning.tune_spec import TuneSpec
model, text, folder, method = sys.argv[1:]
folder = Path(folder)
torch.set_num_threads(1)
processes = int(os.environ.get("WORLD_SIZE", "1"))
import transformers  # only now: it puts another module in its own place
arguments = transformers.TrainingArguments

def on_gpus(**settings):
    made = arguments(**{**settings, "use_cpu": True, "ddp_backend": "gloo", "dataloader_pin_memory": False})
    assert made.world_size == processes  # the processes are joined now
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    return made

if processes > 1:
    transformers.TrainingArguments = on_gpus
    tune.check_sharding = lambda spec: None
    language_model.fits = lambda *_: False  # on a CPU alone a batch is computed in parts
corpus = read_corpus(text, source_language="en", target_language="ca").head(22)
settings = {"epochs": 2, "batch_size": 6 // processes, "learning_rate": 1e-3 if method == "full" else 1e-2}
spec = TuneSpec(
    method=method, dtype="float32", device="cpu", settings=settings, seed=1, fsdp=processes > 1, save_every=3,
    folder=folder / f"unfinished-{method}",
)
tuning = tune.prepare(open_checkpoint(model), corpus, spec, corpus.head(5))
result = tuning.run()
sharded = [name for name, module in tuning.loaded.lm.named_modules() if isinstance(module, FSDPModule)]
if os.environ.get("RANK", "0") == "0":
    result.save(folder / method)
    (folder / f"{method}.json").write_text(json.dumps({"sharded": sharded}))
if processes > 1:
    torch.distributed.destroy_process_group()
"""


def train(processes, model, text, folder, method):
    folder.mkdir(exist_ok=True)
    script = folder / "train.py"
    script.write_text(TRAIN)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    words = [*(start if processes > 1 else [sys.executable]), str(script), str(model), str(text), str(folder)]
    done = subprocess.run([*words, method], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def values(folder, method):
    from safetensors.numpy import load_file

    if method == "full":
        lm = load_model(folder / method, dtype="float32", device="cpu").lm
        return {name: parameter.numpy() for name, parameter in lm.named_parameters()}
    (file,) = (folder / method).glob("*.safetensors")
    return load_file(file)


def compare(one: Path, two: Path, method: str):
    trainings = [json.loads((folder / method / "training.json").read_text()) for folder in (one, two)]
    for name in ("losses", "validation"):
        before, now = ([entry["loss"] for entry in training[name]] for training in trainings)
        assert before == pytest.approx(now, abs=1e-4), name
    before, now = (values(folder, method) for folder in (one, two))
    assert before.keys() == now.keys()
    assert all(np.allclose(before[name], now[name], atol=1e-3) for name in before)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["embed", "full", "prefix"])
def test_two_shards_train_what_one_process_trains_and_resume(method, narrow_untied_model, text_file, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train(1, narrow_untied_model, text_file, one, method)
    train(2, narrow_untied_model, text_file, two, method)
    compare(one, two, method)
    assert json.loads((two / f"{method}.json").read_text())["sharded"] == ["model.layers.0", "model.layers.1"]
    shutil.rmtree(two / method)
    shutil.rmtree(two / f"unfinished-{method}" / "checkpoint-8")
    train(2, narrow_untied_model, text_file, two, method)
    compare(one, two, method)
