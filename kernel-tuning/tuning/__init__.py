"""What `tune` is made of: the table of knobs, the host, settings, what is asked of a host, and what is done about it."""
