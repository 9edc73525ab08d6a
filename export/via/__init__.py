"""Second ways to a package: onnxruntime-genai's model builder and optimum-onnx.

For what our own exporter does not describe. The tools run in an environment of their own; their
graph is brought to the package's contract and proved like any other.
"""

from ondevice.export.via.convert import convert_via

__all__ = ["convert_via"]
