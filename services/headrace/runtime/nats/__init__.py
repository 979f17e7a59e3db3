"""How NATS is spoken."""
