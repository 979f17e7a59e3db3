"""What every daemon shares: configuration, lifecycle, logging, metrics, the bus."""
