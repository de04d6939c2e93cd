"""RunPod's management API v2, `https://api.runpod.io/v2/…` in the cloud, as far as deploying functions needs it.

Shapes are those of the OpenAPI document in RunPod's documentation (`api-reference-v2/openapi.json` at commit a900806,
20 August 2026) [V2]; where production was seen to differ from it, as production [LIVE].
"""
