"""Deploying functions at Modal, or at the emulator."""
