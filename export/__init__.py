"""Checkpoint -> grid -> graph -> package -> proof."""
