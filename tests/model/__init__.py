"""The protocol in virtual time: the real edge and worker code on a network and a queue that fail.

Nothing here opens a socket or reads a clock. A seed decides everything; see `tests.model.world`.
"""
