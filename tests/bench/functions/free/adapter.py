from tests.bench.adapter import Free

__all__ = ["Free"]
