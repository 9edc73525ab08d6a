"""Packing the assistant and a model into one folder that runs without Python."""
