"""English names of languages, for the instruction that the model reads.

Must never guess: an unknown code is an error that names the nearest known one.
"""

from __future__ import annotations

import difflib

from ks_lottery.errors import UserError


def language_name(code: str) -> str:
    """Return the English name of a language.

    Parameters
    ----------
    code
        ``ca``, ``pt_BR``, ``pt-BR``, ``sr_Latn``, or an English name such as ``Catalan``, which is returned as it is.

    Raises
    ------
    UserError
        When it is not known.

    Examples
    --------
    >>> language_name("ca"), language_name("pt_BR"), language_name("Catalan")
    ('Catalan', 'Portuguese (Brazil)', 'Catalan')
    """
    from babel import Locale

    english = Locale("en")
    names = {str(key): str(value) for key, value in english.languages.items()}
    if code in names.values():
        return code
    first, *rest = code.replace("-", "_").split("_")
    places = {**english.territories, **english.scripts}
    more = [str(places.get(part.upper()) or places.get(part.title(), "")) for part in rest]
    if first.lower() in names and all(more):
        return names[first.lower()] + (f" ({', '.join(more)})" if more else "")
    near = difflib.get_close_matches(code, [*names, *names.values()], n=1, cutoff=0.5)
    hint = f"; the nearest known one is {near[0]}" if near else ""
    raise UserError(f"language {code!r} is not known: give a code such as ca or a name such as Catalan{hint}")
