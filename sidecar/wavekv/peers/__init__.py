"""The peer plane: `service` answers other members, `transport` asks them, `tls` says who may speak."""
