"""restante: a self-hosted, DataForSEO-compatible LLM Responses server."""

__version__ = "0.1.0"
