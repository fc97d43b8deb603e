"""Decisions without side effects: values in, values out; time and keys are arguments."""
