"""Sweeps: one test at several values of call arguments, and what they say together."""
