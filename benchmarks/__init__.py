"""How fast and how lean a transfer is, beside the tools one would use otherwise: ``make bench``."""
