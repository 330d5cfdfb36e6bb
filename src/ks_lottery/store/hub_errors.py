"""Why something cannot be had from the Hugging Face hub, as the middle of a sentence and a remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ks_lottery.store.download import causes

if TYPE_CHECKING:
    from collections.abc import Sequence

OFFLINE = "OfflineModeIsEnabled"
"""Name of the hub's error when its own switch forbids the network."""

NETWORK = ("ConnectError", "ConnectTimeout", "ReadTimeout", "NetworkError", "TimeoutException", "gaierror")
"""Names of errors of a network that does not answer, or of a name that has no address."""


def hub_problem(error: BaseException) -> tuple[str, str]:
    """Return why the hub did not give something, and what to do.

    Parameters
    ----------
    error
        What `huggingface_hub` or `datasets` raised.

    Returns
    -------
    tuple of str
        The reason, without a full stop, and the remedy; both empty where the reason is another.
    """
    from huggingface_hub import constants

    every = list(causes(error))
    names = [{cls.__name__ for cls in type(cause).__mro__} for cause in every]
    if OFFLINE in str(error) or any(OFFLINE in known for known in names):
        return "HF_HUB_OFFLINE is set, so that nothing is fetched", "unset it"
    status = next((code for cause in every if (code := _status(cause)) is not None), None)
    if status is not None:
        return f"the hub answers {status}", "check the name, or log in (hf auth login) if it is private or gated"
    if any(known & set(NETWORK) for known in names) or any(isinstance(cause, ConnectionError) for cause in every):
        return f"the network is missing: {constants.ENDPOINT} cannot be reached{_said(every)}", "check the network"
    return "", ""


def _status(error: BaseException) -> int | None:
    """Return what a server answered, as its number; None where none did."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def _said(every: Sequence[BaseException]) -> str:
    said = [cause.strerror for cause in every if isinstance(cause, OSError) and cause.strerror]
    return f" ({said[-1]})" if said else ""
