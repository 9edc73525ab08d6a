"""The first lines of a packaged program: before anything of ours, and onnxruntime, is imported."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reads it when it is imported

from ondevice.bundle.entry import main

if __name__ == "__main__":
    main()
