"""What an emulated API can be asked for: the vocabulary of each provider's `facts.OPERATIONS`.

The coverage page is made from these lists (`make coverage-page`), and from the names of the conformance tests.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """One call or option of a provider's API. `source` uses the marks that the facts module explains.

    What is not `is_here` answers that it is not implemented. `gaps`: where it falls short of the provider, or what of
    it is not certain.
    """

    name: str
    source: str
    is_here: bool = True
    gaps: str = ""
