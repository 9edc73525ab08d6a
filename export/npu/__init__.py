"""The target of NPUs: static shapes, QDQ, operators that their providers publish."""
