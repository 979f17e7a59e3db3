"""The forced command of the tunnel key. Needs Python alone."""
