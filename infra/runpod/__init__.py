"""Functions as endpoints at RunPod, through its management API v2."""
