"""The scaler's place: it comes with a later version."""
