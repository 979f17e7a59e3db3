"""The edge: HTTP in, requests onto the bus, frames back, as OpenAI's API."""
