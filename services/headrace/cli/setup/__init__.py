"""`headrace init`: configuration, credentials and permissions of a site."""
