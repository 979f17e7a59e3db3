"""The command line: `headrace init` sets up an installation, `headrace demo` runs one here."""
