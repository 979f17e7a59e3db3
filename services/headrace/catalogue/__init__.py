"""The model catalogue: one TOML file per model, read by the scaler and by ``headrace models``."""
