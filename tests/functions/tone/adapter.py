from tests.adapters import Tone

__all__ = ["Tone"]
