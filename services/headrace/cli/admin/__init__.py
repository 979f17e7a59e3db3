"""`headrace keys | users | groups | limits | usage | db`: the gateway's administration."""
