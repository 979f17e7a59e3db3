"""The wire between Headrace's processes: subjects, envelopes, frames, control, errors, codec.

Nothing outside this package builds a subject or a frame by hand.
"""
