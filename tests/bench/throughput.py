def measure() -> str:
    return ""
