"""The one way out to other people's servers."""
