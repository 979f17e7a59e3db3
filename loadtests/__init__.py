"""The measuring bench: a simulated engine, a load generator, and the measures made with them."""
