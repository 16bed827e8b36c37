"""A workload in, samples out: runners, timing and memory."""
