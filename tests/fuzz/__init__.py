"""Coverage-guided fuzzing: `python -m tests.fuzz TARGET --minutes N`. What it found is replayed by every test run."""
