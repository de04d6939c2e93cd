from tests.gated import Gated

__all__ = ["Gated"]
