"""The digest of a declaration: two that mean the same have the same."""

import hashlib
import json


def digest_of(semantics: object) -> str:
    """32 hex digits over JSON-ready values, in their order."""
    return hashlib.blake2b(json.dumps(semantics).encode(), digest_size=16).hexdigest()
