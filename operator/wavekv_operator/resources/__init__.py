"""Pure builders: one module for each kind of child, from a `Cluster` to a manifest. No I/O, no clock."""
