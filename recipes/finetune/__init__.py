"""A LoRA adapter for a small model, trained on the evaluation set's training split, and tried."""
