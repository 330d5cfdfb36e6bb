"""Uploads an export to the Hugging Face hub: the files that its manifest lists, with the token of the hub's own login."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_lottery.checkpoint.adapter_settings import ADAPTER_CONFIG
from ks_lottery.config.service_commands import PushSettings
from ks_lottery.config.values import checks_names
from ks_lottery.errors import UserError, shortened
from ks_lottery.models.card_names import HUB_ID, hub_id
from ks_lottery.report.notebook import Shown
from ks_lottery.report.section import Column, Section
from ks_lottery.store.files import read_json
from ks_lottery.store.hub_errors import hub_problem
from ks_lottery.store.json_content import read_object
from ks_lottery.store.work_folder import LOCK_FILE, MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from huggingface_hub import HfApi

CARD = "README.md"

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
"""Endings of files that can run code when they are loaded, or are of a kind that no export has."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Push(Shown):
    """What is uploaded, and where to.

    Parameters
    ----------
    folder
        The export.
    repo, branch
        Repository on the hub, and its branch; None for the main one.
    files
        File to its bytes.
    notes
        Sentences on what a reader of the repository will miss.
    address
        Where it is; None for a dry run.
    """

    folder: Path
    repo: str
    branch: str | None
    files: dict[str, int]
    notes: tuple[str, ...]
    address: str | None = None

    def __repr__(self) -> str:
        return f"Push({self.folder} to {self.repo}: {len(self.files)} files, {sum(self.files.values()):,} bytes)"

    def sections(self) -> list[Section]:
        """Return the files with their sizes, and the notes."""
        where = self.repo if self.branch is None else f"{self.repo}, branch {self.branch}"
        columns = [Column(title="file", cut="begin"), Column(title="size", form="bytes")]
        rows = [[name, size] for name, size in self.files.items()]
        total = f"{len(rows)} files, {sum(self.files.values()):,} bytes, to {where}"
        return [Section(title=f"{self.folder}", columns=columns, rows=rows, sentences=[total, *self.notes])]


@checks_names
def push(
    folder: str | Path,
    repo: str,
    *,
    private: bool = PushSettings.private,
    branch: str | None = PushSettings.branch,
    message: str | None = PushSettings.message,
    dry_run: bool = PushSettings.dry_run,
    tell: Callable[[Push], None] | None = None,
) -> Push:
    """Upload an export to a repository of models on the hub, which is made where it does not exist.

    Nothing but the files that the export's manifest lists is uploaded. The token is that of `huggingface_hub`'s own login
    (``hf auth login``); there is no other way to give one.

    Parameters
    ----------
    folder
        Folder that `export` wrote.
    repo
        ``OWNER/NAME``.
    private
        Make the repository private; off by default. One that exists and is public is then refused.
    branch
        Branch to upload to, made where it does not exist; None (the default) for the main one.
    message
        Message of the commit; None (the default) for one that names the format.
    dry_run
        Check the folder and upload nothing, without network and login; off by default.
    tell
        Called with what is uploaded before it is.

    Returns
    -------
    Push
        What was uploaded, and the address.

    Raises
    ------
    UserError
        When the folder is no export or has other files, `repo` is no id, nobody is logged in, or the hub refuses.
    """
    place = Path(folder).expanduser()
    if not HUB_ID.fullmatch(repo) or ".." in repo or "--" in repo:
        raise UserError(f"`repo` is {shortened(repo)}, but must be OWNER/NAME, as the hub has it")
    about = _manifest(place)
    plan = Push(folder=place, repo=repo, branch=branch, files=_files(place, about), notes=_notes(place))
    _check_card(place)
    if not dry_run:
        _check_access()
    if tell is not None:
        tell(plan)
    if dry_run:
        return plan
    message = message or f"Upload of a {about['settings'].get('to')} export of ks-lottery"
    return replace(plan, address=_upload(plan, private=private, message=message))


def _manifest(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST_FILE).is_file():
        raise UserError(
            f"{folder} is not the folder of an export: it has no {MANIFEST_FILE}. Give one that `ks-lottery export` wrote"
        )
    about = read_json(folder / MANIFEST_FILE, "export")
    if not isinstance(about.get("files"), list) or not isinstance(about.get("settings"), dict):
        raise UserError(f"{folder} was exported by an earlier version, which did not list its files: export it again")
    return about


def _files(folder: Path, about: dict[str, Any]) -> dict[str, int]:
    """Return the files of an export, and refuse others: nothing is uploaded that the export did not write."""
    listed = {str(name) for name in about["files"]} | {MANIFEST_FILE}
    there = {path.name: path for path in sorted(folder.iterdir()) if path.name != LOCK_FILE}
    for name, path in there.items():
        if path.suffix.lower() in PICKLES:
            raise UserError(
                f"{path} is of a kind that can run code when it is loaded, and no part of an export: remove it"
            )
        if name not in listed or path.is_symlink() or not path.is_file():
            raise UserError(f"{path} is no file of this export: move it elsewhere, and give the same command again")
    missing = sorted(listed - set(there))
    if missing:
        raise UserError(f"{folder} lacks {missing[0]}, which the export wrote: export it again")
    return {name: path.stat().st_size for name, path in there.items()}


def _check_card(folder: Path) -> None:
    """Refuse a card whose front matter the hub would refuse, before anything is uploaded."""
    import yaml
    from huggingface_hub import ModelCard

    try:
        text = (folder / CARD).read_text(encoding="utf-8")
        if text.startswith("---\n"):
            ModelCard(text)
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {CARD}, the card of the model: export it again") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"the front matter of {folder / CARD} is not what the hub takes: export it again") from error
    if not text.startswith("---\n"):
        raise UserError(f"{folder / CARD} is no model card, since it has no front matter: export it again")


def _notes(folder: Path) -> tuple[str, ...]:
    """Say what others need that the folder names by a place on this machine."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return ()
    base = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or hub_id(base) == base:
        return ()
    return (
        f"{ADAPTER_CONFIG} names its base by a place on this machine ({base}), which nobody else has: write the hub id of the "
        "same weights there before you upload, if they have one, or export with --to merged.",
    )


def _check_access() -> None:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so that nothing is uploaded: unset it")
    if get_token() is None:
        raise UserError("you are not logged in to the hub: log in (hf auth login), and give the same command again")


def _upload(plan: Push, *, private: bool, message: str) -> str:
    """Upload, and return the address."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        with _silent():
            address = str(api.create_repo(plan.repo, private=private or None, exist_ok=True))
            if private:
                _check_private(api, plan.repo)
            if plan.branch is not None:
                api.create_branch(plan.repo, branch=plan.branch, exist_ok=True)
            api.upload_folder(
                repo_id=plan.repo, folder_path=plan.folder, revision=plan.branch, commit_message=message,
                allow_patterns=list(plan.files),
            )  # fmt: skip
    except UserError:
        raise
    except Exception as error:  # the hub's library has errors of many kinds: of its own, httpx, xet and the system
        raise _refused(plan.repo, error) from error
    return address if plan.branch is None else f"{address}/tree/{plan.branch}"


@contextmanager
def _silent() -> Generator[None]:
    """Switch bars and warnings of the hub's library off inside a block: the command says itself that it still works."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if not before:
            enable_progress_bars()


def _check_private(api: HfApi, repo: str) -> None:
    if not api.model_info(repo).private:
        raise UserError(f"{repo} exists and is public: make it private on the hub first, or leave `private` out")


def _refused(repo: str, error: Exception) -> UserError:
    """Say in one sentence why an upload failed; of the message of the hub, which may be long, the first line."""
    reason, remedy = hub_problem(error)
    if reason:
        return UserError(f"{repo} cannot be uploaded to, and {reason}: {remedy}")
    said = next((line for line in str(error).splitlines() if line.strip()), "")[:200]
    return UserError(f"{repo} cannot be uploaded to ({type(error).__name__}: {said}): give the same command again")
