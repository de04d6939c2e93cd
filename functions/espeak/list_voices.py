"""`python -m functions.espeak.list_voices > functions/espeak/voices.json`"""

from __future__ import annotations

import json
import sys

from .voices import list_voices

if __name__ == "__main__":
    entries = ",\n".join("  " + json.dumps(voice, ensure_ascii=False) for voice in list_voices())
    sys.stdout.write(f"[\n{entries}\n]\n")
