"""The asyncio shell around the core: commits, gossip, what is told about it."""
