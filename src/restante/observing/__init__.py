"""What a process tells of itself: metrics, traces, and whom a log line is about. Every layer but the core may tell."""
