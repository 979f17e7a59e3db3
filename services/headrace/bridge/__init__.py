"""The bridge: one SSH connection to each cluster, and bytes between it and the hub's leaf link.

It knows nothing of NATS: whatever the hub sends to the local port of a cluster comes out of that
cluster's gate, and the other way round.
"""
