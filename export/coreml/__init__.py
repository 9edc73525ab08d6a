"""Core ML packages of decoders: written, and evaluated on any machine.

Imports coremltools, which is in the extra `coreml`; nothing else of ondevice does.
"""

import logging

# It warns of every class that only macOS has, and of every newer library, when it is imported.
logging.getLogger("coremltools").setLevel(logging.ERROR)
